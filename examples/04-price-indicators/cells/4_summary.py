from pathlib import Path

first, last = table["close"].iloc[0], table["close"].iloc[-1]
top, bottom = table["close"].idxmax(), table["close"].idxmin()
hot = [f"{day:%Y-%m-%d}" for day in table.index[table["rsi"] > 70]]
cold = [f"{day:%Y-%m-%d}" for day in table.index[table["rsi"] < 30]]
turns = "\n".join(
    f"- {day:%Y-%m-%d}: MACD crossed its signal {'upwards' if way == 'up' else 'downwards'}"
    for day, way in crossings
)
state = "below" if table["histogram"].iloc[-1] < 0 else "above"
summary = f"""# Lumen Bank (LMBK): 30 trading days to {table.index[-1]:%Y-%m-%d}

Prices are from `prices.csv`: the quotes server did not answer. One day was listed twice; the correction was used.

## Price

- Last close **{last:.2f}**, **{100 * (last / first - 1):+.2f} %** over the window (from {first:.2f}).
- Highest close {table["close"].max():.2f} on {top:%Y-%m-%d}, lowest {table["close"].min():.2f} on {bottom:%Y-%m-%d}.

## MACD

{turns}
- Now MACD is {state} its signal: histogram {table["histogram"].iloc[-1]:.4f}.

## RSI

- Last value **{table["rsi"].iloc[-1]:.1f}**.
- Above 70: {", ".join(hot) or "no day"}.
- Below 30: {", ".join(cold) or "no day"}.

## News

{news}

## Short-term view

For: a raised forecast and the buy-back support the price, and the rise of October was broad. Against: momentum has
turned (MACD is {state} its signal), the share was overbought by its RSI shortly before, and a higher reserve ratio
would weigh on mid-size banks. The next days look like a pause rather than a continuation; a close below the lowest one of
the last five days ({table["close"].tail(5).min():.2f}) would speak for more of a fall, a new cross upwards against it.

This is an exercise with a made-up share, and not investment advice.
"""
Path("summary.md").write_text(summary, encoding="utf-8")
print(summary)
