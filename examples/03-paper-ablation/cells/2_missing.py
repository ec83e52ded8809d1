import json
from pathlib import Path

by_seed = by_seed.apply(pd.to_numeric, errors="coerce")
print(by_seed.to_string())
ablation = {
    variant: [None if pd.isna(value) else value for value in row]
    for variant, row in zip(by_seed.index, by_seed.to_numpy().tolist())
}
Path("tables.json").write_text(
    json.dumps({"main": main, "ablation": ablation}, indent=2, ensure_ascii=False), encoding="utf-8"
)
