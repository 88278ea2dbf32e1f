"""The live tier: gpumon beside a real vLLM, a real Prometheus 3 and a real mail server.

    make test-live                                            installs what is missing, then runs all of it
    python -m tests.live.install                              only installs, into .cache/live of the project
    python -m pytest -m live tests/live -v -k webhook         one test, once it is installed

Environment:

    GPUMON_LIVE_CACHE        where to install, instead of .cache/live (about 4 GB)
    GPUMON_PROMETHEUS_BIN    a folder with `prometheus` and `promtool`, version 3 or later, to use instead of ours
    GPUMON_LIVE_LOGS         a folder that gets the logs of every server a test started; else pytest's temporary folder

Every server listens on a free port of loopback, in a process group of its own, and ends with the test, also when the
test is killed.
"""
