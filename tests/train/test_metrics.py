import json

from openk2.train.metrics import MetricsLog, plot, read


def log_rows(path, rows, resume_step=0):
    with MetricsLog(path, resume_step) as log:
        for row in rows:
            log.write(row)


def test_a_resumed_log_has_every_step_once(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    log_rows(path, [{"step": step, "loss": 1.0} for step in range(1, 6)])
    log_rows(path, [{"step": 4, "loss": 2.0}], resume_step=3)
    assert [(row["step"], row["loss"]) for row in read(path)] == [
        (1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0),
    ]  # fmt: skip
    assert [file.name for file in path.parent.iterdir()] == ["metrics.jsonl"]
    log_rows(path, [])
    assert read(path) == []


def test_a_row_is_on_disk_at_once_and_a_cut_line_is_ignored(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write({"step": 1})
        assert json.loads(path.read_text()) == {"step": 1}
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert read(path) == [{"step": 1}]


def test_the_plot_is_a_png_whatever_was_logged(tmp_path):
    path, png = tmp_path / "metrics.jsonl", tmp_path / "m.png"
    log_rows(path, [])
    plot(path, png)
    empty = png.read_bytes()
    rows = [{"step": s, "loss": 3.0 / s, "max_logit": s, "load_max": 1.5} for s in (1, 2, 3)]
    log_rows(path, [*rows, {"step": 4, "loss": 1.0, "bits_per_byte": 2.0, "name_right": 0.5}])
    plot(path, png)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert png.read_bytes() != empty
