"""The expected result of each operation, whichever protocol calls it. test_parity runs this table.

A case is a name with a step or a list of steps. The mark `~` in an id is replaced by a text that is unique to
the case, in input and output, so cases do not meet. Each case starts with the products below.
"""

from __future__ import annotations

from tests.e2e.parity_words import (
    MAX_QUANTITY,
    Refused,
    Step,
    create_product,
    cursor,
    get_order,
    get_product,
    get_products,
    get_user,
    invalid,
    line,
    list_products,
    no_id,
    no_number,
    ordered,
    place,
    release,
    reserve,
    reserved,
    unknown,
    update_product,
)

LAPTOP = {"id": "laptop~", "name": "Laptop", "price_minor": 120050, "currency": "USD", "stock": 10}
MOUSE = {"id": "mouse~", "name": "Mouse", "price_minor": 1999, "currency": "USD", "stock": 3}
TATAMI = {"id": "tatami~", "name": "Tatami", "price_minor": 30000, "currency": "JPY", "stock": 5}
PRODUCTS = [LAPTOP, MOUSE, TATAMI]

LONG_ID = "x" * 64

NO_LINES = invalid("items", "a list of 1 to 100 lines")
NO_QUERY = invalid("query", "at most 100 characters without control characters")
NO_LIMIT = no_number("limit", 1, 100)
NO_CURSOR = invalid("cursor", "the next_cursor of an earlier page")
NO_KEY = invalid("idempotency_key", "1 to 255 visible ASCII characters")
TOO_MANY = Refused("validation-failed", "", "expected a list of at most 1000 items")

NO_PRODUCT = unknown("product", "nothing~")
THERE_ALREADY = Refused("already-exists", "id", "there is a product mouse~ already")
OUT_OF_STOCK = Refused("out-of-stock", "quantity", "mouse~ has 3 in stock, the order asks for 4")
TWO_CURRENCIES = Refused(
    "validation-failed", "items", "the products are priced in JPY, USD: expected one currency"
)
RELEASED = Refused("conflict", "", "order order~ has been cancelled")
KEY_REUSED = Refused(
    "idempotency-key-reused",
    "idempotency_key",
    "Idempotency-Key: expected a new key, because this key was used for another order",
)

CASES: dict[str, Step | list[Step]] = {
    # reading a product
    "a product": get_product("laptop~", {**LAPTOP, "price": 1200.5}),
    "a product without minor units": get_product("tatami~", {**TATAMI, "price": 30000}),
    "an unknown product": get_product("nothing~", NO_PRODUCT),
    "the longest id": get_product(LONG_ID, unknown("product", LONG_ID)),
    "an id that is too long": get_product(LONG_ID + "x", no_id("product_id")),
    "an id with a space": get_product("no id", no_id("product_id")),
    "an id with a NUL": get_product("a\0b", no_id("product_id")),
    "an id with a slash": get_product("a/b", no_id("product_id")),
    "an id beyond ASCII": get_product("küche", no_id("product_id")),
    "an empty id": get_product("", no_id("product_id")),
    "an id that is a number": get_product(5, no_id("product_id")),
    "an id that is a list": get_product(["laptop~"], no_id("product_id")),
    "an id that is null": get_product(None, no_id("product_id")),
    # reading products by id
    "products in the order asked for": get_products(["mouse~", "laptop~"], [{"ok": MOUSE}, {"ok": LAPTOP}]),
    "the same product twice": get_products(["mouse~", "mouse~"], [{"ok": MOUSE}, {"ok": MOUSE}]),
    "bad ids among good ones": get_products(
        ["nothing~", "laptop~", "no id", ""],
        [NO_PRODUCT, {"ok": LAPTOP}, no_id("product_id"), no_id("product_id")],
    ),
    "ids of other types": get_products([5, None], [no_id("product_id"), no_id("product_id")]),
    "no ids": get_products([], []),
    "1001 ids": get_products(["laptop~"] * 1001, TOO_MANY),
    "ids that are no list": get_products("laptop~", TOO_MANY),
    # searching products, by pages
    "a search": list_products({"items": [LAPTOP]}, query="laptop~"),
    "a search in capitals": list_products({"items": [LAPTOP]}, query="LAPTOP~"),
    "a search that finds all": list_products({"items": [LAPTOP, MOUSE, TATAMI]}, query="~"),
    "a search that finds nothing": list_products({"items": []}, query="nothing~"),
    "a search for a wildcard": list_products({"items": []}, query="l%p~"),
    "an empty search is none": list_products({}, query=""),
    "the longest search": list_products({"items": []}, query="x" * 100),
    "a search that is too long": list_products(NO_QUERY, query="x" * 101),
    "a search for a control character": list_products(NO_QUERY, query="a\nb"),
    "a page": list_products({"items": [LAPTOP, MOUSE]}, query="~", limit=2),
    "the page after it, the last": list_products(
        {"items": [TATAMI], "next_cursor": None}, query="~", limit=2, cursor=cursor("n")
    ),
    "a limit of 0": list_products(NO_LIMIT, limit=0),
    "a limit of 101": list_products(NO_LIMIT, limit=101),
    "a limit that is a word": list_products(NO_LIMIT, limit="ten"),
    "a limit that is a fraction": list_products(NO_LIMIT, limit=1.5),
    "a forged cursor": list_products(NO_CURSOR, cursor="forged"),
    "an empty cursor": list_products(NO_CURSOR, cursor=""),
    "a cursor of another list": list_products(NO_CURSOR, cursor=cursor("a", "b")),
    # reserving stock
    "all lines are reserved": [
        reserve(
            [line("mouse~", 3), line("laptop~", 1)],
            {"order_id": "order~", "items": [reserved(LAPTOP, 1), reserved(MOUSE, 3)], "currency": "USD"},
        ),
        get_product("mouse~", {"stock": 0}),
    ],
    "a product twice in an order is one line": reserve(
        [line("mouse~", 1), line("mouse~", 1)], {"items": [reserved(MOUSE, 2)]}
    ),
    "another order under the same id gets the first answer": [
        reserve([line("mouse~", 1)], {"items": [reserved(MOUSE, 1)]}),
        reserve([line("laptop~", 9)], {"items": [reserved(MOUSE, 1)]}),
        get_product("laptop~", {"stock": 10}),
    ],
    "out of stock, and it stays so": [
        reserve([line("mouse~", 4)], OUT_OF_STOCK),
        reserve([line("mouse~", 1)], OUT_OF_STOCK),
        get_product("mouse~", {"stock": 3}),
    ],
    "one line out of stock reserves none": [
        reserve([line("laptop~", 1), line("mouse~", 4)], OUT_OF_STOCK),
        get_product("laptop~", {"stock": 10}),
    ],
    "an unknown product in an order": reserve([line("mouse~", 1), line("nothing~", 1)], NO_PRODUCT),
    "two currencies in an order": reserve([line("mouse~", 1), line("tatami~", 1)], TWO_CURRENCIES),
    "no lines": reserve([], NO_LINES),
    "101 lines": reserve([line("mouse~", 1)] * 101, NO_LINES),
    "lines that are no list": reserve("mouse~", NO_LINES),
    "a line that is none": reserve(["mouse~"], invalid("items[0]", "an object")),
    "an order without an id": reserve([line("mouse~", 1)], no_id("order_id"), order_id=""),
    "a malformed id in a line": reserve([line("mouse~", 1), line("no id", 1)], no_id("items[1].product_id")),
    "more than there can be, in all": reserve(
        [line("mouse~", MAX_QUANTITY), line("mouse~", 1)],
        invalid("items[1].quantity", f"at most {MAX_QUANTITY} of mouse~ in all"),
    ),
    **{
        f"a quantity of {quantity!r}": reserve([line("mouse~", quantity)], no_number("items[0].quantity"))
        for quantity in (0, -1, MAX_QUANTITY + 1, 2**62, 1.5, "1", True, None, [])
    },
    # giving stock back
    "a reservation is given back once": [
        reserve([line("mouse~", 2)], {"items": [reserved(MOUSE, 2)]}),
        release({"order_id": "order~"}),
        release({"order_id": "order~"}),
        get_product("mouse~", {"stock": 3}),
    ],
    "a release that overtakes its order": [
        release({"order_id": "order~"}),
        reserve([line("mouse~", 2)], RELEASED),
        get_product("mouse~", {"stock": 3}),
    ],
    "a release of a malformed id": release(no_id("order_id"), order_id="no id"),
    # changing products
    "a new product": [
        create_product({"id": "lamp~", "price": 5.0, "currency": "USD", "stock": 1}),
        get_product("lamp~", {"name": "Lamp"}),
    ],
    "a product that is there already": create_product(THERE_ALREADY, product_id="mouse~"),
    **{
        f"a product whose {field} is {value!r:.20}": create_product(refusal, **{field: value})
        for field, refusal, values in (
            ("product_id", no_id("id"), ("no id", "", 5)),
            (
                "name",
                invalid("name", "1 to 200 printable characters"),
                ("", " ", "a\nb", "zero\u200bwidth", "x" * 201, 5),
            ),
            ("price_minor", no_number("price_minor", 0, 10**12), (-1, 1.5, "1", 10**12 + 1)),
            ("stock", no_number("stock", 0), (-1, MAX_QUANTITY + 1, True)),
            ("currency", invalid("currency", "three capital letters (ISO 4217)"), ("usd", "US", "€€€")),
        )
        for value in values
    },
    "another price": update_product("mouse~", {"name": "Mouse", "price": 0.05}, price_minor=5),
    "another name for nothing": update_product("nothing~", NO_PRODUCT, name="New"),
    "another name for a malformed id": update_product("no id", no_id("product_id"), name="New"),
    # placing orders
    "an order": place(
        [line("mouse~", 2), line("laptop~", 1)],
        {"status": "confirmed", "items": [ordered(LAPTOP, 1), ordered(MOUSE, 2)], "total_minor": 124048},
    ),
    "the same order again": [
        place([line("mouse~", 2)], {"status": "confirmed"}, idempotency_key="key~"),
        place([line("mouse~", 2)], {"status": "confirmed"}, idempotency_key="key~"),
        get_product("mouse~", {"stock": 1}),
    ],
    "another order under the same key": [
        place([line("mouse~", 1)], {"status": "confirmed"}, idempotency_key="key~"),
        place([line("mouse~", 2)], KEY_REUSED, idempotency_key="key~"),
        get_product("mouse~", {"stock": 2}),
    ],
    "an order that is out of stock, twice": [
        place([line("mouse~", 4)], OUT_OF_STOCK, idempotency_key="key~"),
        place([line("mouse~", 4)], OUT_OF_STOCK, idempotency_key="key~"),
    ],
    "an order of an unknown product": place([line("nothing~", 1)], NO_PRODUCT),
    "an order in two currencies": place([line("mouse~", 1), line("tatami~", 1)], TWO_CURRENCIES),
    "an order of no lines": place([], NO_LINES),
    "an order with a key of two words": place([line("mouse~", 1)], NO_KEY, idempotency_key="two words"),
    "an order of nobody": place([line("mouse~", 1)], unknown("user", "nobody~"), user_id="nobody~"),
    "an order of a malformed user": place([line("mouse~", 1)], no_id("user_id"), user_id="no id"),
    **{
        f"an order of {quantity!r}": place([line("mouse~", quantity)], no_number("items[0].quantity"))
        for quantity in (0, MAX_QUANTITY + 1, 1.5, "1", True)
    },
    # reading orders and users
    "an unknown order": get_order("nothing~", unknown("order", "nothing~")),
    "a malformed order id": get_order("no id", no_id("order_id")),
    "an unknown user": get_user("nobody~", unknown("user", "nobody~")),
    "a malformed user id": get_user("no id", no_id("user_id")),
}
