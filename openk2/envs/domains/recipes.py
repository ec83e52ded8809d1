"""A kitchen: recipes and what they take, the pantry, the shopping list and the week's meals."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from random import Random
from typing import Annotated, Literal

from openk2.envs.authoring import has, same, told
from openk2.envs.domain import Call, Fact, Goal, domain_of, intent
from openk2.envs.slots import Slot
from openk2.envs.tool import tool
from openk2.envs.world import World, check, find, new_id

# Slots, rows and requests read best as lists, on as few lines as they need.
# fmt: off
RecipeId = Annotated[str, Slot("recipe_id", "recipe id", "菜谱编号", "id", entity="recipes")]
FoodId = Annotated[str, Slot("food_id", "pantry item id", "食材编号", "id", entity="pantry")]
WishId = Annotated[str, Slot("wish_id", "list entry id", "购物条目编号", "id", entity="shopping")]
MealId = Annotated[str, Slot("meal_id", "planned meal id", "餐食计划编号", "id", entity="meals")]
Dish = Annotated[str, Slot("dish", "name of the dish", "菜名")]
Cuisine = Annotated[Literal["italian", "indian", "mexican", "thai", "french", "chinese"],
                    Slot("cuisine", "cuisine", "菜系")]
Course = Annotated[Literal["soup", "main", "dessert"], Slot("course", "course", "菜品类型")]
MaxMinutes = Annotated[int,
                       Slot("max_minutes", "longest time in minutes", "最长用时（分钟）", "count")]
Food = Annotated[str, Slot("food", "food", "食材")]
Foods = Annotated[list[str], Slot("foods", "ingredients", "用料")]
Minutes = Annotated[int, Slot("minutes", "minutes to cook", "烹饪时间（分钟）", "count")]
Grams = Annotated[int, Slot("grams", "amount in grams", "重量（克）", "count")]
Place = Annotated[Literal["fridge", "freezer", "cupboard"],
                  Slot("place", "place where it is kept", "存放位置")]
ToPlace = Annotated[Literal["fridge", "freezer", "cupboard"],
                    Slot("to_place", "new place", "新的存放位置")]
BestBefore = Annotated[str, Slot("best_before", "best-before date", "保质期", "date")]
Day = Annotated[str, Slot("day", "day", "日期", "date")]
NewDay = Annotated[str, Slot("new_day", "new day", "新日期", "date")]
Time = Annotated[Literal["breakfast", "lunch", "dinner"], Slot("time", "meal of the day", "餐次")]
People = Annotated[int, Slot("people", "number of people", "人数", "count")]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a dish is made."""
    id: RecipeId
    dish: Dish
    cuisine: Cuisine
    course: Course
    minutes: Minutes
    foods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stock:
    """Food that is in the house."""
    id: FoodId
    food: Food
    grams: Grams
    place: Place
    best_before: BestBefore


@dataclass(frozen=True, slots=True)
class Wish:
    """Food that will be bought."""
    id: WishId
    food: Food
    grams: Grams


@dataclass(frozen=True, slots=True)
class Meal:
    """A dish on a day."""
    id: MealId
    day: Day
    time: Time
    recipe_id: RecipeId
    dish: Dish
    people: People


@dataclass(slots=True)
class Kitchen(World):
    """Everything there is."""
    recipes: dict[str, Recipe] = field(default_factory=dict[str, Recipe])
    pantry: dict[str, Stock] = field(default_factory=dict[str, Stock])
    shopping: dict[str, Wish] = field(default_factory=dict[str, Wish])
    meals: dict[str, Meal] = field(default_factory=dict[str, Meal])


STYLES = ("Roasted", "Spicy", "Creamy", "Grandma's", "Quick", "Smoky", "Lemon", "Crispy", "Slow",
          "Rustic", "Golden")
BASES = ("Lentil Soup", "Aubergine Bake", "Chickpea Curry", "Mushroom Risotto", "Salmon Tray",
         "Pumpkin Pie", "Noodle Bowl", "Bean Stew", "Apple Crumble", "Fish Tacos", "Onion Tart",
         "Rice Pudding")
CHINESE_DISHES = ("番茄炒蛋", "红烧豆腐", "酸辣汤", "葱油拌面", "冬瓜排骨汤")
FOODS = ("rice", "red lentils", "mushrooms", "salmon", "tofu", "chickpeas", "onions", "apples",
         "pumpkin", "butter", "coconut milk", "spinach", "noodles", "black beans", "parmesan",
         "ginger", "potatoes", "yoghurt", "peanuts", "walnuts", "香菇", "豆瓣酱")
CUISINES: tuple[Cuisine, ...] = ("italian", "indian", "mexican", "thai", "french", "chinese")
COURSES: tuple[Course, ...] = ("soup", "main", "main", "dessert")
PLACES: dict[Place, tuple[str, str]] = {"fridge": ("the fridge", "冷藏室"),
                                        "freezer": ("the freezer", "冷冻室"),
                                        "cupboard": ("the cupboard", "橱柜")}
TIMES: dict[Time, tuple[str, str]] = {"breakfast": ("breakfast", "早餐"),
                                      "lunch": ("lunch", "午餐"), "dinner": ("dinner", "晚餐")}
NUTS = ("peanuts", "walnuts")


def seed(rng: Random) -> Kitchen:
    """Make a stocked kitchen; some food lies in two places, some dishes have two recipes."""
    today = date(2026, 2, 1) + timedelta(days=rng.randrange(300))
    world = Kitchen(f"{today} 17:20")
    dishes = [f"{style} {rng.choice(BASES)}" for style in rng.sample(STYLES, 8)]
    dishes += [*rng.sample(CHINESE_DISHES, 2), *rng.sample(dishes[2:], rng.randint(0, 1))]
    plain = [food for food in FOODS if food not in NUTS]
    for number, dish in enumerate(dishes):
        foods = (*rng.sample(plain, rng.randint(2, 4)), *rng.sample(NUTS, int(number < 2)))
        minutes = 10 * rng.randint(1, 9) + number % 10
        key = new_id(world.recipes, "R", dish, minutes)
        world.recipes[key] = Recipe(key, dish, rng.choice(CUISINES), rng.choice(COURSES), minutes,
                                    foods)
    foods = rng.sample(plain, 9)
    for number, food in enumerate((*foods, *rng.sample(foods, rng.randint(0, 2)))):
        place: Place = "freezer" if number > 8 else rng.choice(("fridge", "cupboard"))
        fresh = f"{today + timedelta(days=rng.randint(-4, 40))}"
        key = new_id(world.pantry, "F", food, place)
        world.pantry[key] = Stock(key, food, rng.randint(2, 30) * 50, place, fresh)
    for food in rng.sample([food for food in FOODS if food not in foods], 4):
        _wish(world, food, rng.randint(2, 20) * 50)
    for step in rng.sample(range(9), 5):
        recipe, time = rng.choice(list(world.recipes.values())), rng.choice(list(TIMES))
        _plan(world, recipe, f"{today + timedelta(days=step)}", time, rng.randint(1, 6))
    return world


def _wish(world: Kitchen, food: str, grams: int) -> Wish:
    key = new_id(world.shopping, "W", food)
    world.shopping[key] = Wish(key, food, grams)
    return world.shopping[key]


def _plan(world: Kitchen, recipe: Recipe, day: str, time: Time, people: int) -> Meal:
    key = new_id(world.meals, "M", day, time)
    world.meals[key] = Meal(key, day, time, recipe.id, recipe.dish, people)
    return world.meals[key]


# --- tools ---------------------------------------------------------------------------------------


@tool("Search recipes by dish, cuisine, course, longest time, or several of them.",
      "按菜名、菜系、类型、最长用时或其中几项搜索菜谱。")
def look_up_recipes(world: Kitchen, dish: Dish | None = None, cuisine: Cuisine | None = None,
                   course: Course | None = None, max_minutes: MaxMinutes | None = None
                   ) -> list[Recipe]:
    """Return at most five, the quickest first."""
    found = [one for one in world.recipes.values() if has(dish, one.dish)
             and same(cuisine, one.cuisine) and same(course, one.course)
             and one.minutes <= (max_minutes or one.minutes)]
    return sorted(found, key=lambda one: (one.minutes, one.dish))[:5]


@tool("Look into the pantry, by food, place, or both.", "按食材、存放位置或两者查看库存。")
def check_pantry(world: Kitchen, food: Food | None = None, place: Place | None = None
                 ) -> list[Stock]:
    """Return at most five, what spoils first before the rest."""
    found = [one for one in world.pantry.values() if has(food, one.food) and same(place, one.place)]
    return sorted(found, key=lambda one: (one.best_before, one.id))[:5]


@tool("Show the shopping list, or what of a food is on it.", "查看购物清单，或其中的某种食材。")
def show_shopping(world: Kitchen, food: Food | None = None) -> list[Wish]:
    """Return at most five."""
    return [one for one in world.shopping.values() if has(food, one.food)][:5]


@tool("Show planned meals, by day, dish, or both.", "按日期、菜名或两者查看餐食计划。")
def show_meals(world: Kitchen, day: Day | None = None, dish: Dish | None = None) -> list[Meal]:
    """Return at most five, the next first."""
    found = [one for one in world.meals.values() if same(day, one.day) and has(dish, one.dish)]
    return sorted(found, key=lambda one: (one.day, one.time))[:5]


@tool("Work out which ingredients of a recipe are not in the pantry.", "计算做一道菜还缺哪些食材。",
      errors=("not_found",))
def missing_foods(world: Kitchen, recipe_id: RecipeId) -> dict[str, str | int]:
    """Return how many there are and which."""
    foods = find(world.recipes, recipe_id, "recipe").foods
    there = {one.food for one in world.pantry.values()}
    missing = [food for food in foods if food not in there]
    return {"missing": len(missing), "foods": ", ".join(missing) or "none"}


@tool("Write a new recipe down. Returns it.", "记录一份新菜谱，返回该菜谱。", writes=True,
      errors=("name_taken",))
def write_recipe(world: Kitchen, dish: Dish, course: Course, minutes: Minutes, foods: Foods,
                 cuisine: Cuisine = "chinese") -> Recipe:
    """Add a recipe under a name that is new."""
    taken = {one.dish for one in world.recipes.values()}
    check(dish not in taken, "name_taken", "There is a recipe of this name.")
    key = new_id(world.recipes, "R", dish, minutes)
    world.recipes[key] = Recipe(key, dish, cuisine, course, minutes, tuple(foods))
    return world.recipes[key]


@tool("Put food on the shopping list; what is there of it is added up.",
      "把食材加入购物清单，已有的会累加。", writes=True)
def add_to_shopping(world: Kitchen, food: Food, grams: Grams = 500) -> Wish:
    """Plan to buy food."""
    before = [one for one in world.shopping.values() if one.food == food]
    for one in before:
        del world.shopping[one.id]
    return _wish(world, food, grams + sum(one.grams for one in before))


@tool("Take an entry off the shopping list.", "从购物清单中删除一项。", writes=True,
      errors=("not_found",))
def remove_from_shopping(world: Kitchen, wish_id: WishId) -> Wish:
    """Do not buy food."""
    find(world.shopping, wish_id, "shopping list entry")
    return world.shopping.pop(wish_id)


@tool("Move an entry of the shopping list into the pantry: it was bought.",
      "把购物清单中的一项放进库存：已购买。", writes=True, errors=("not_found",))
def put_away(world: Kitchen, wish_id: WishId, place: Place, best_before: BestBefore) -> Stock:
    """Store what was bought."""
    wish = remove_from_shopping.run(world, wish_id)
    key = new_id(world.pantry, "F", wish.food, place, best_before)
    world.pantry[key] = Stock(key, wish.food, wish.grams, place, best_before)
    return world.pantry[key]


@tool("Take an amount of a food out of the pantry.", "从库存中取出一定量的食材。", writes=True,
      errors=("not_found", "not_enough"))
def use_food(world: Kitchen, food_id: FoodId, grams: Grams) -> Stock:
    """Use food; what is used up stays listed with nothing left."""
    stock = find(world.pantry, food_id, "pantry item")
    check(grams <= stock.grams, "not_enough", f"There are only {stock.grams} grams.")
    world.pantry[food_id] = replace(stock, grams=stock.grams - grams)
    return world.pantry[food_id]


@tool("Move food in the pantry to another place.", "把食材换一个位置存放。", writes=True,
      errors=("not_found", "already_there"))
def move_food(world: Kitchen, food_id: FoodId, to_place: ToPlace) -> Stock:
    """Store food elsewhere."""
    stock = find(world.pantry, food_id, "pantry item")
    check(stock.place != to_place, "already_there", "It is there already.")
    world.pantry[food_id] = replace(stock, place=to_place)
    return world.pantry[food_id]


@tool("Plan a recipe for a meal that is still free.", "把菜谱安排到还空着的一餐。", writes=True,
      errors=("not_found", "in_the_past", "meal_taken"))
def plan_meal(world: Kitchen, recipe_id: RecipeId, day: Day, time: Time, people: People = 2
              ) -> Meal:
    """Add a meal."""
    recipe = find(world.recipes, recipe_id, "recipe")
    check(day >= world.today, "in_the_past", "That day is over.")
    taken = {(one.day, one.time) for one in world.meals.values()}
    check((day, time) not in taken, "meal_taken", "Another dish is planned for then.")
    return _plan(world, recipe, day, time, people)


@tool("Move a planned meal to another day.", "把计划好的一餐改到另一天。", writes=True,
      errors=("not_found", "in_the_past", "meal_taken"))
def move_meal(world: Kitchen, meal_id: MealId, new_day: NewDay) -> Meal:
    """Cook it on another day, at the same time."""
    meal = find(world.meals, meal_id, "meal")
    check(new_day >= world.today, "in_the_past", "That day is over.")
    taken = {(one.day, one.time) for one in world.meals.values()}
    check((new_day, meal.time) not in taken, "meal_taken", "Another dish is planned for then.")
    world.meals[meal_id] = replace(meal, day=new_day)
    return world.meals[meal_id]


# --- what users want -----------------------------------------------------------------------------


def _day(world: Kitchen, rng: Random) -> str:
    return f"{date.fromisoformat(world.today) + timedelta(days=rng.randint(10, 24))}"


def _recipe(world: Kitchen, rng: Random, nuts: bool = False) -> Recipe:
    found = [one for one in world.recipes.values() if bool({*one.foods} & {*NUTS}) == nuts]
    return rng.choice(found)


PLAN_EN = ("Let's have {dish} for {time} on {day}, we're {people}.",
           "Plan {dish}[ on {day}][ as {time}][ for {people} people].",
           "{people} of us will eat {dish} on {day}, {time}. Put it in the plan.")
PLAN_ZH = ("{day}的{time}做{dish}，{people}个人吃。",
           "安排一顿{dish}[，{day}][{time}][，{people}人]。")


@intent(
    en=PLAN_EN, zh=PLAN_ZH,
    reply_en=("{dish} is planned for {time} on {day}.",),
    reply_zh=("已安排 {day} 的{time}：{dish}。",),
)
def plan(world: Kitchen, rng: Random) -> Goal:
    """Plan a meal on a free day."""
    return _planning(rng, _recipe(world, rng), _day(world, rng), rng.choice(list(TIMES)))


def _planning(rng: Random, recipe: Recipe, day: str, time: Time) -> Goal:
    people = rng.randint(2, 8)
    call = Call("plan_meal", {"recipe_id": recipe.id, "day": day, "time": time, "people": people})
    facts = told(dish=recipe.dish, day=day, time=Fact("time", time, TIMES[time]), people=people)
    return Goal((call,), facts, told(minutes=recipe.minutes))


@intent(
    en=("We can't cook {dish} on {day}; move it to {new_day}.",
        "The {dish} of {day} has to wait[ until {new_day}].",
        "Shift {dish} from {day} to {new_day}, please."),
    zh=("{day}的{dish}改到{new_day}。", "{day}做不了{dish}，换一天[，{new_day}吧]。"),
    reply_en=("{dish} moved to {new_day}.",), reply_zh=("{dish}已改到 {new_day}。",),
)
def postpone(world: Kitchen, rng: Random) -> Goal:
    """Move a meal."""
    meal, day = rng.choice(list(world.meals.values())), _day(world, rng)
    call = Call("move_meal", {"meal_id": meal.id, "new_day": day})
    return Goal((call,), told(dish=meal.dish, day=meal.day, new_day=day))


@intent(
    en=("We need {grams} grams of {food}.", "Put {food} on the shopping list[, {grams} g].",
        "Could you note {grams} grams of {food} for the shop?"),
    zh=("要买{grams}克{food}。", "把{food}加到购物清单[，{grams}克]。"),
    reply_en=("{result.grams} grams of {food} are on the list.",),
    reply_zh=("购物清单上有 {result.grams} 克{food}。",),
)
def need(world: Kitchen, rng: Random) -> Goal:
    """Add to the shopping list."""
    food, grams = rng.choice(FOODS), rng.randint(1, 30) * 50
    return Goal((Call("add_to_shopping", {"food": food, "grams": grams}),),
                told(food=food, grams=grams))


@intent(
    en=("We don't need {food} after all.", "Strike {food} off the shopping list.",
        "Forget the {food} on the list."),
    zh=("{food}不用买了。", "把购物清单上的{food}划掉。"),
    reply_en=("Done: {food} off the list.",), reply_zh=("{food}已从购物清单删除。",),
)
def skip_buying(world: Kitchen, rng: Random) -> Goal:
    """Take food off the shopping list."""
    wish = rng.choice(list(world.shopping.values()))
    return Goal((Call("remove_from_shopping", {"wish_id": wish.id}),), told(food=wish.food))


@intent(
    en=("I bought the {food}. It's in {place} and keeps until {best_before}.",
        "From the list: {food}, best before {best_before}, stored in {place}.",
        "Got the {food}, update the pantry[: it is in {place}][, good until {best_before}]."),
    zh=("{food}买好了，放在{place}，保质期到{best_before}。",
        "清单上的{food}已经买了[，放{place}][，{best_before}到期]，请更新。"),
    reply_en=("{result.grams} grams of {food} are in {place}.",),
    reply_zh=("{food}已放进{place}，共 {result.grams} 克。",),
)
def bought(world: Kitchen, rng: Random) -> Goal:
    """Move food from the list into the pantry."""
    wish, place, fresh = (rng.choice(list(world.shopping.values())), rng.choice(list(PLACES)),
                          _day(world, rng))
    call = Call("put_away", {"wish_id": wish.id, "place": place, "best_before": fresh})
    return Goal((call,),
                told(food=wish.food, place=Fact("place", place, PLACES[place]), best_before=fresh))


def _using(world: Kitchen, rng: Random, low: int, high: int) -> Goal:
    stock, grams = rng.choice(list(world.pantry.values())), rng.randint(low, high) * 10
    grams += stock.grams if low > 9 else 0
    call = Call("use_food", {"food_id": stock.id, "grams": grams})
    where = told(place=Fact("place", stock.place, PLACES[stock.place]))
    return Goal((call,), told(food=stock.food, grams=grams), where)


USE_EN = ("I used {grams} grams of {food}.", "{grams} g of {food} went into the pot.",
          "Take {food} out of the stock[: {grams} grams].")
USE_ZH = ("用了{grams}克{food}。", "从库存里减掉{food}[，{grams}克]。")


@intent(
    en=USE_EN, zh=USE_ZH,
    reply_en=("{result.grams} grams of {food} are left.",),
    reply_zh=("{food}还剩 {result.grams} 克。",),
)
def use(world: Kitchen, rng: Random) -> Goal:
    """Use food."""
    return _using(world, rng, 1, 9)


@intent(
    en=("Move the {food} to {to_place}.", "{food} should be in {to_place}.",
        "I put the {food} elsewhere[: {to_place}]. Please note it."),
    zh=("把{food}换到{to_place}。", "{food}换了地方[，放到{to_place}了]，记一下。"),
    reply_en=("{food}: now in {to_place}.",), reply_zh=("{food}已放到{to_place}。",),
)
def store_elsewhere(world: Kitchen, rng: Random) -> Goal:
    """Move food to another place."""
    stock = rng.choice(list(world.pantry.values()))
    places: list[Place] = [one for one in PLACES if one != stock.place]
    place = rng.choice(places)
    call = Call("move_food", {"food_id": stock.id, "to_place": place})
    facts = told(food=stock.food, to_place=Fact("to_place", place, PLACES[place]))
    return Goal((call,), facts, told(place=Fact("place", stock.place, PLACES[stock.place])))


@intent(
    en=("Write down my {dish}: {course}, {minutes} minutes, takes {foods}.",
        "New recipe {dish}, with {foods}[, a {course}][, {minutes} minutes]."),
    zh=("记个菜谱：{dish}，{course}，{minutes}分钟，用料{foods}。",
        "新菜谱{dish}，用料是{foods}[，{course}][，{minutes}分钟]。"),
    reply_en=("The recipe for {dish} is kept as {result.id}.",),
    reply_zh=("菜谱{dish}已保存，编号 {result.id}。",),
)
def invent(world: Kitchen, rng: Random) -> Goal | None:
    """Write a recipe down."""
    dish, minutes = f"{rng.choice(STYLES)} {rng.choice(BASES)}", rng.randint(3, 18) * 5
    if any(one.dish == dish for one in world.recipes.values()):
        return None
    course, foods = rng.choice(("soup", "main", "dessert")), rng.sample(FOODS, rng.randint(2, 4))
    values = {"dish": dish, "course": course, "minutes": minutes, "foods": foods}
    words = {"soup": ("soup", "汤"), "main": ("main course", "主菜"),
             "dessert": ("dessert", "甜点")}
    return Goal((Call("write_recipe", values),),
                told(**values | {"course": Fact("course", course, words[course])}))


@intent(
    en=("What is missing for {dish}?",
        "Do we have everything for {dish}? How many things do I have to buy, and which?"),
    zh=("做{dish}还缺什么？", "想做{dish}，家里还差几样、哪些？"),
    reply_en=("Missing for {dish}: {result.missing} ({result.foods}).",),
    reply_zh=("做{dish}还缺 {result.missing} 样：{result.foods}。",),
)
def ask_missing(world: Kitchen, rng: Random) -> Goal:
    """Learn what a dish still needs."""
    recipe = _recipe(world, rng)
    return Goal((Call("missing_foods", {"recipe_id": recipe.id}),), told(dish=recipe.dish),
                told(minutes=recipe.minutes))


@intent(
    en=("What can I cook in {max_minutes} minutes?",
        "Dinner has to be quick, {max_minutes} minutes at most. Ideas?",
        "Any recipes that take no more than {max_minutes} minutes?"),
    zh=("{max_minutes}分钟内能做什么菜？", "有没有{max_minutes}分钟以内的菜谱？"),
    reply_en=("I found {count}: {rows.dish}.",), reply_zh=("有{count}道：{rows.dish}。",),
)
def ask_quick(world: Kitchen, rng: Random) -> Goal:
    """Learn what is quick."""
    limit = min(one.minutes for one in world.recipes.values()) + rng.randint(5, 25)
    return Goal((Call("look_up_recipes", {"max_minutes": limit}),), told(max_minutes=limit))


@intent(
    en=USE_EN, zh=USE_ZH,
    reply_en=("There are not {grams} grams of {food}.",), reply_zh=("{food}不够 {grams} 克。",),
    kind="fails",
)
def use_too_much(world: Kitchen, rng: Random) -> Goal:
    """Use more food than there is."""
    return _using(world, rng, 10, 40)


@intent(
    en=PLAN_EN, zh=PLAN_ZH,
    reply_en=("Another dish is planned for {time} on {day}, so {dish} doesn't fit.",),
    reply_zh=("{day} 的{time}已有别的菜，无法安排{dish}。",), kind="fails",
)
def plan_twice(world: Kitchen, rng: Random) -> Goal:
    """Plan a meal that is taken."""
    meal, recipe = rng.choice(list(world.meals.values())), _recipe(world, rng)
    return _planning(rng, recipe, meal.day, meal.time)


@intent(
    en=PLAN_EN, zh=PLAN_ZH,
    reply_en=("{dish} has nuts in it, so I may not plan it on {day}.",),
    reply_zh=("{dish}含坚果，{day} 不能安排。",), kind="policy",
)
def plan_nuts(world: Kitchen, rng: Random) -> Goal:
    """Ask for a dish that is not safe."""
    recipe = _recipe(world, rng, nuts=True)
    look = Call("look_up_recipes", {"dish": recipe.dish})
    goal = _planning(rng, recipe, _day(world, rng), rng.choice(list(TIMES)))
    return replace(goal, calls=(look,))


DOMAIN = domain_of(
    sys.modules[__name__], "the kitchen of a household", "一户人家的厨房", seed,
    policies_en=("Never plan a dish with peanuts or walnuts; somebody here is allergic.",),
    policies_zh=("不得安排含花生或核桃（peanuts、walnuts）的菜，家里有人过敏。",),
)
