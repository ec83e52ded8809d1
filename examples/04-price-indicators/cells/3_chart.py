from plotly.subplots import make_subplots

INK, TEAL, SAND, RED, GRID = "#264653", "#2a9d8f", "#e9a03b", "#d1495b", "#e6eaec"
days = table.index.strftime("%Y-%m-%d").tolist()
shown = prices.loc[table.index]

figure = make_subplots(
    rows=3,
    cols=1,
    shared_xaxes=True,
    vertical_spacing=0.05,
    row_heights=[0.56, 0.24, 0.20],
    subplot_titles=("Price", "MACD (12, 26, 9)", "RSI (14)"),
)
figure.add_candlestick(
    x=days,
    open=shown["open"].tolist(),
    high=shown["high"].tolist(),
    low=shown["low"].tolist(),
    close=shown["close"].tolist(),
    name="LMBK",
    increasing={"line": {"color": TEAL}, "fillcolor": TEAL},
    decreasing={"line": {"color": RED}, "fillcolor": RED},
    row=1,
    col=1,
)
figure.add_bar(
    x=days,
    y=table["histogram"].tolist(),
    name="histogram",
    marker_color=["#9fd0c9" if value >= 0 else "#e7a9b1" for value in table["histogram"]],
    row=2,
    col=1,
)
for column, colour in (("macd", INK), ("signal", SAND)):
    line = {"color": colour, "width": 2}
    figure.add_scatter(x=days, y=table[column].tolist(), name=column, line=line, row=2, col=1)
line = {"color": INK, "width": 2}
figure.add_scatter(x=days, y=table["rsi"].tolist(), name="RSI", line=line, row=3, col=1)
figure.add_hrect(y0=70, y1=100, fillcolor=RED, opacity=0.08, line_width=0, row=3, col=1)
figure.add_hrect(y0=0, y1=30, fillcolor=TEAL, opacity=0.08, line_width=0, row=3, col=1)
for level, colour in ((70, RED), (30, TEAL)):
    figure.add_hline(y=level, line={"color": colour, "dash": "dot", "width": 1}, row=3, col=1)
for day, _ in crossings:
    figure.add_vline(
        x=f"{day:%Y-%m-%d}", line={"color": "#8a979c", "dash": "dash", "width": 1}, row="all", col=1
    )
figure.update_layout(
    title={"text": "<b>Lumen Bank (LMBK)</b>: the last 30 trading days", "x": 0.06, "y": 0.97},
    template="plotly_white",
    font={"family": "DejaVu Sans, system-ui, sans-serif", "color": "#22313a", "size": 13},
    height=820,
    margin={"l": 60, "r": 30, "t": 110, "b": 50},
    hovermode="x unified",
    legend={"orientation": "h", "y": 1.09, "x": 1, "xanchor": "right"},
    xaxis_rangeslider_visible=False,
    bargap=0.3,
)
figure.update_xaxes(type="category", nticks=10, gridcolor=GRID, showspikes=True, spikethickness=1)
figure.update_yaxes(gridcolor=GRID, zerolinecolor="#b8c2c6")
figure.update_yaxes(range=[0, 100], tickvals=[0, 30, 50, 70, 100], row=3, col=1)
figure.write_html(
    "chart.html", include_plotlyjs=True, config={"responsive": True, "displaylogo": False}
)
print("chart.html written")
