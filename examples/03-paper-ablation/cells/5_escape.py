source = Path("appendix.tex").read_text(encoding="utf-8")
escaped = source.replace("warm-up & decay", r"warm-up \& decay")
Path("appendix.tex").write_text(escaped, encoding="utf-8")
print(escaped.count(r"\&"), "ampersands escaped")
