"""PromQL with the semantics of Prometheus 3, over any store that is a ``monitor.selector.Storage``.

``plan.plan`` reads a query once; ``evaluate.instant``, ``vector``, ``latest`` and ``range_query`` evaluate the plan, as
often as one likes; ``parse.parse_selector`` reads a lone selector. All raise ``errors.PromQLError``.

Where it differs from Prometheus, knowingly: there are no native histograms and nothing that Prometheus calls
experimental; among equal values ``topk`` prefers by the order of labels, not by that of the series' birth; regular
expressions know no classes of Unicode (``\\pL``); a query has at most 4 kB and 150 operators and levels of nesting.
"""
