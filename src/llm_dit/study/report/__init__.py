"""report.html: one page per sweep that opens from disk, with no server and no network.

write.py gathers the pictures and writes the page; page.html, style.css and the *.js files beside it are its source.
The numbers come from study/evidence/analysis.py; nothing here computes a statistic.
"""

from llm_dit.study.report.write import collect_pictures, provenance, write_report

__all__ = ["collect_pictures", "provenance", "write_report"]
