"""What takes apptainer's command line where there is none, and runs the program as it is."""

APPTAINER = """\
#!/bin/bash
printf '%s\\n' "$@" > "$(dirname "$0")/arguments"
[ "$1" = exec ] || exit 99
shift
while :; do
    case $1 in
        --bind | --pwd) shift 2 ;;
        --nv) shift ;;
        *) break ;;
    esac
done
shift
exec "$@"
"""
"""It writes its arguments beside itself, a line each."""
