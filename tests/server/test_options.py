"""Tests of clusterra_server.options: what the command refuses before it tries."""

import pytest

from clusterra_server.__main__ import main

SLURM = ["--backend=slurm", "--port=0", "--slurmrestd=http://h:1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend=slurm"], "needs --slurmrestd"),
        (["--slurmrestd=http://h:1"], "need --backend slurm"),
        ([*SLURM, "--output-dir=x"], "x is not absolute"),
        ([*SLURM, "--output-dir=/nowhere"], "/nowhere is not a folder"),
        ([*SLURM, f"--output-dir={__file__}"], "test_options.py is not a folder"),
        ([*SLURM, "--api-version=44"], "'44' is not a version"),
        (["--host=0.0.0.0"], "set CLUSTERRA_SERVER_TOKEN to a token of your own"),
        (["--s3=https://host", "--port=0"], "is no S3 endpoint with a bucket"),
    ],
    ids=repr,
)
def test_options_that_do_not_fit_together_are_said_in_words(monkeypatch, capsys, arguments, words):
    monkeypatch.delenv("CLUSTERRA_SERVER_TOKEN", raising=False)

    assert status_of(arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        *("", "h:1", "http://", "http://[::1", "http://h:abc", "http://h\n:1", "http://h:99999"),
        *("http://h:0", "http://h?x=1", "http://me:secret@h:1", "ftp://h"),
    ],
    ids=repr,
)
def test_an_address_that_is_none_is_said_in_one_line(capsys, url):
    assert status_of(["--backend=slurm", f"--slurmrestd={url}"]) == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(f"argument --slurmrestd: {url!r} is not an address such as http://127.0.0.1:6820")
    )


def status_of(arguments):
    """What the command ends with."""
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code
