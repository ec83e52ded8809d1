close = prices["close"]
fast = close.ewm(span=12, adjust=False).mean()
slow = close.ewm(span=26, adjust=False).mean()
table = pd.DataFrame({"close": close, "macd": fast - slow})
table["signal"] = table["macd"].ewm(span=9, adjust=False).mean()
table["histogram"] = table["macd"] - table["signal"]

change = close.diff().iloc[1:]
gains, losses = change.clip(lower=0), -change.clip(upper=0)
up, down = gains.iloc[:14].mean(), losses.iloc[:14].mean()
strength = {change.index[13]: 100 * up / (up + down)}
for day in change.index[14:]:
    up, down = (13 * up + gains[day]) / 14, (13 * down + losses[day]) / 14
    strength[day] = 100 * up / (up + down)
table["rsi"] = pd.Series(strength)

above = table["histogram"] > 0
crossed = table.index[above != above.shift()][1:]
table = table.tail(30)
crossings = [(day, "up" if above[day] else "down") for day in crossed if day in table.index]
table.round(6).to_csv("indicators.csv")
print(table.round(3).to_string())
print("crossings:", [(f"{day:%Y-%m-%d}", way) for day, way in crossings])
