"""Reports: what a period was on a node or a fleet, from what its server has stored.

``collect`` asks a daemon or a Prometheus through ``monitor.client``; ``make`` turns the answers into a ``Report`` and
is pure; ``sections`` puts one in words, which ``markdown``, ``html`` and ``letter`` write down.
"""
