"""What reports are written with: charts as SVG, an HTML page that needs no network, Markdown's tables."""
