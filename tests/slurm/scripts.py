"""Options of ``sbatch``, each set of which makes a record of its own."""

SCRIPTS = {
    "nothing": "",
    "name": "-J 'my job'",
    "partition": "-p second",
    "account": "--account=lab",
    "qos": "--qos normal",
    "nodes": "-N 2",
    "nodes from to": "-N 1-2",
    "tasks": "-n 3",
    "tasks per node": "-N 2 --ntasks-per-node=2",
    "cpus": "-c 2",
    "tasks and cpus": "-n 2 -c 2",
    "mincpus": "--mincpus=2",
    "memory": "--mem=1G",
    "memory per cpu": "--mem-per-cpu=200M",
    "all memory": "--mem=0",
    "minutes": "-t 90",
    "days": "-t 1-12:30",
    "seconds": "-t 0:90",
    "no limit": "-p second -t 0",
    "shortest time": "-t 60 --time-min=10",
    "array": "-a 0-7%2",
    "array in steps": "--array=1-9:4",
    "gpus": "--gpus=2",
    "gpus per node": "-N 2 --gpus-per-node=1",
    "gpus per task": "-n 2 --gpus-per-task=1",
    "gpus of all tasks": "--gpus=2 --gpus-per-task=1",
    "gpus per task of nodes": "-N 2 --gpus-per-task=1",
    "gpus per task and cpus": "--gpus-per-task=1 -c 2 -N 1-2 --gpus=2",
    "gres": "--gres=gpu:1",
    "cpus per gpu": "--gpus=1 --cpus-per-gpu=2",
    "memory per gpu": "--gpus=1 --mem-per-gpu=500M",
    "constraint": "-C fast",
    "licences": "-L matlab:2",
    "nice": "--nice=50",
    "requeue": "--no-requeue\n#SBATCH --requeue",
    "priority": "--priority=100",
    "no requeue": "--no-requeue",
    "nodelist": "-w lab2",
    "exclude": "-x lab1",
    "output": "-o out_%j.txt -e err_%j.txt",
    "no output": "-o none -e none",
    "folder": "-D /tmp -o out.txt -e err_%j.txt",
    "relative folder": "-D sub -o out.txt",
    "comment": "--comment='two words'",
    "quotes": r"""--comment="a\nb 'c\"d" """,
    "begin tomorrow": "--begin=tomorrow",
    "begin": "--begin=2040-01-01T10:00:00",
    "deadline": "--deadline=2040-01-01T10:00:00 -t 10",
    "dependency": "-d singleton",
    "kill on invalid": "-d singleton --kill-on-invalid-dep=yes",
    "no kill": "-N 2 --no-kill",
    "hint": "--hint=nomultithread",
    "tasks per core": "--ntasks-per-core=1",
    "threads": "--threads-per-core=1",
    "contiguous": "-N 2 --contiguous",
    "spread": "-N 2 --spread-job",
    "overcommit": "-n 2 --overcommit",
    "mail": "--mail-type=END,FAIL --mail-user=me@example.org",
    "tmp": "--tmp=100M",
    "wckey": "--wckey=key",
    "signal": "--signal=B:USR1@60 -t 10",
    "lines of others": "--ignore-pbs\n#PBS -N other -l nodes=2",
    "several lines": "-J a -n 2\n#SBATCH --mem=300M\n##SBATCH -n 4\n\n#SBATCH -t 10",
    "het carried over": (
        "-J first -A lab -q normal -t 30 --time-min=10 --mem=300M --begin=2040-01-01 --comment=c "
        "--nice=5 -o out_%j.txt -e err_%j.txt -D /tmp -d singleton --kill-on-invalid-dep=yes "
        "--hint=nomultithread -x lab2 --no-requeue --wckey=key --prefer=fast"
        "\n#SBATCH hetjob\n#SBATCH -n 2"
    ),
    "het not carried over": (
        "-p second -N 1 -n 2 -c 2 -C fast --gres=gpu:1 -L matlab:1 --exclusive --tmp=5 --mincpus=2 "
        "--contiguous --spread-job --ntasks-per-node=2 --threads-per-core=1 --mem-per-cpu=150M -O "
        "\n#SBATCH hetjob\n#SBATCH -n 2"
    ),
    "het of three": (
        "-n 1 -t 5 --mem=300M\n#SBATCH hetjob\n#SBATCH -n 2 -t 7 -p second\n#SBATCH hetjob"
        "\n#SBATCH --mem=400M --requeue"
    ),
    "het": "-n 1 -J first\n#SBATCH hetjob\n#SBATCH -n 2 --mem=300M",
}
