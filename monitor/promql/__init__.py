"""PromQL with the semantics of Prometheus 3, over any store that is a ``monitor.selector.Storage``.

``plan.plan`` reads a query once; ``evaluate.instant``, ``vector``, ``latest`` and ``range_query`` evaluate the plan, as
often as one likes; ``parse.parse_selector`` reads a lone selector. All raise ``errors.PromQLError``.

A text goes through ``lexer``, ``parse`` (the grammar) and ``check`` (the types) into a ``tree``; a plan is made of
``nodes`` that give a ``frame``: series, and a row of values for each step.

Where it differs from Prometheus, knowingly: there are no native histograms and nothing that Prometheus calls
experimental, and both are refused as such; among equal values ``topk`` prefers by the order of labels, not by that of
the series' birth; regular expressions know no classes of Unicode (``\\pL``); ``timestamp`` heeds an ``offset`` beside
an ``@``; a query has at most 4 kB and 150 operators and levels of nesting, and so much of samples, memory and time.
"""
