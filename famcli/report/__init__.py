"""``fam report``: one HTML file that shows what an evaluation found; :mod:`famcli.report.page` writes it."""
