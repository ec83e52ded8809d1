import pandas as pd

tables = pd.read_html("paper.html", attrs={"id": "main"})
main = tables[0].set_index("Method")
main = {
    method: {name: [float(part) for part in cell.split("±")] for name, cell in row.items()}
    for method, row in main.to_dict("index").items()
}
by_seed = pd.read_html("paper.html", attrs={"id": "ablation"})[0].set_index("Variant")
by_seed = by_seed.astype(float)
print(by_seed)
