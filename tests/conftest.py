"""What holds for every test."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs a job behind itself lets it ignore interrupts, and what it starts inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
