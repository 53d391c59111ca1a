"""Tests of airflow_provider_clusterra.api.templates and .values."""

import re
from datetime import date
from enum import Enum, IntEnum

import pytest

from airflow_provider_clusterra.api import InputError, NotFoundError, ProtocolError
from airflow_provider_clusterra.api.templates import check_params, read_template, read_templates
from tests.support.recorded import FOLDER, answer
from tests.support.wire import Wire, http

FILES = sorted((FOLDER / "templates").glob("*.json"))
CATALOGUE = {path.stem: read_template(answer(path.read_text())) for path in FILES}
BATCH = {
    name: template
    for name, template in CATALOGUE.items()
    if template.kind == "batch" and template.ready
}


def template(**fields):
    return read_template(answer({"id": "t", **fields}))


def one(**param):
    """A template with one parameter ``x``."""
    return template(parameters=[{"name": "x", **param}])


def taken(made, value):
    return check_params(made, {"x": value}).params["x"]


def needed(made):
    """Values for what has to be given."""
    return {
        param.name: "some value"
        for param in made.params
        if param.required and not param.has_default
    }


@pytest.mark.parametrize("name", BATCH)
def test_every_template_takes_its_own_defaults(name):
    made = BATCH[name]
    values = {param.name: param.default for param in made.params if param.has_default}
    checked = check_params(made, {**values, **needed(made)})

    assert checked.template_id == name
    assert {**checked.inputs, **checked.params} == {**values, **needed(made)}
    assert set(checked.inputs) <= {param.name for param in made.params if param.place == "inputs"}


@pytest.mark.parametrize("name", BATCH)
def test_every_template_takes_what_its_schema_allows(name):
    made = BATCH[name]
    for param in made.params:
        allowed = [
            *param.options,
            *(each for each in (param.least, param.most) if each is not None),
        ]
        for value in allowed or {"text": ["text"], "number": [2.5]}.get(param.kind, []):
            for given in (value, str(value)):
                check_params(made, {**needed(made), param.name: given})


@pytest.mark.parametrize("name", BATCH)
def test_every_template_refuses_every_wrong_value_by_its_name(name):
    made = BATCH[name]
    for param in made.params:
        wrong = {"number": "many", "integer": 1.5, "bool": "perhaps", "map": "x", "json": "{"}
        values = [wrong.get(param.kind, ["a", "list"])]
        values += [] if param.least is None else [param.least - 1]
        values += [] if param.most is None else [param.most + 1]
        for value in values:
            with pytest.raises(InputError, match=rf"Template {name}: {param.name} is "):
                check_params(made, {**needed(made), param.name: value})


@pytest.mark.parametrize("name", [name for name in BATCH if needed(BATCH[name])])
def test_every_template_asks_for_what_is_missing(name):
    for missing in needed(BATCH[name]):
        with pytest.raises(InputError, match=f"{missing} is missing"):
            check_params(BATCH[name], {})


@pytest.mark.parametrize(
    ("param", "value", "expected"),
    [
        ({"type": "int"}, "4", 4),
        ({"type": "int"}, 4.0, 4),
        ({"widget": "number"}, " 4.5 ", 4.5),
        ({"widget": "number"}, "4", 4),
        ({"widget": "number"}, "1e3", 1000),
        ({"type": "bool"}, "True", True),
        ({"type": "bool"}, "no", False),
        ({"type": "bool"}, 1, True),
        ({"type": "str"}, 5, "5"),
        ({"widget": "text", "options": [1, 2]}, "2", 2),
        ({"widget": "enum", "options": [{"value": "a", "label": "A"}]}, "a", "a"),
        ({"widget": "enum", "options": [True, False]}, "false", False),
        ({"widget": "env_map"}, {"A": 1}, {"A": "1"}),
        ({"widget": "env_map"}, '{"A": "1"}', {"A": "1"}),
        ({"widget": "nextflow_schema"}, {"a": [1]}, {"a": [1]}),
        ({"widget": "json_textarea"}, '{"a": 1}', '{"a": 1}'),
        ({"widget": "number", "default": 0, "min": 1}, 0, 0),
        ({"widget": "never heard of"}, "x", "x"),
    ],
    ids=repr,
)
def test_a_value_is_read_as_the_schema_says(param, value, expected):
    found = taken(one(**param), value)

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("param", "value", "words"),
    [
        ({"type": "int"}, "4.5", "x is '4.5', and takes a whole number"),
        ({"type": "int"}, True, "x is True, and takes a whole number"),
        ({"widget": "number"}, "nan", "takes a number"),
        ({"widget": "number"}, "1_0", "takes a number"),
        ({"widget": "number", "min": 1, "max": 4}, "0", "x is 0, and must be 1 or more"),
        ({"widget": "number", "min": 1, "max": 4}, 5, "x is 5, and must be 4 or less"),
        ({"type": "bool"}, "maybe", "takes true or false"),
        ({"widget": "enum", "options": ["a", "b"]}, "c", "x is 'c', and may be 'a', 'b'"),
        ({"widget": "text"}, ["k"], "x is ['k'], and takes one text"),
        ({"widget": "text", "required": True}, " ", "x is empty"),
        ({"widget": "text"}, {"a": "b" * 100}, "...,"),
    ],
    ids=repr,
)
def test_a_value_that_is_wrong_is_told_in_words(param, value, words):
    with pytest.raises(InputError, match=re.escape(words)):
        taken(one(**param), value)


def test_one_error_names_all_problems():
    made = template(
        ready=False,
        parameters=[{"name": "ntomp", "type": "int", "max": 8}, {"name": "tpr", "required": True}],
    )
    with pytest.raises(InputError) as caught:
        check_params(made, {"ntomp": 9, "ntopm": 1, "zzz": 2})

    assert str(caught.value) == (
        "Template t: t is not ready: it is a preview; ntopm is not known (did you mean ntomp?); "
        "zzz is not known (there is ntomp, tpr); ntomp is 9, and must be 8 or less; tpr is missing."
    )


def test_required_with_a_default_may_be_left_out():
    assert check_params(one(required=True, default="a"), {}).params == {}
    assert check_params(one(required=True, default="a"), {"x": None}).params == {}


@pytest.mark.parametrize(
    ("name", "words"),
    [("jupyter", "is interactive: such a job never ends"), ("scp-dia", "is a workflow")],
)
def test_what_is_no_batch_job_is_refused(name, words):
    with pytest.raises(InputError, match=words):
        check_params(CATALOGUE[name], {})


def test_a_preset_is_submitted_as_its_parent_with_its_values():
    parent = template(parameters=[{"name": "n", "type": "int"}, {"name": "mode"}])
    preset = template(
        id="p", kind="preset", parent_id="t", static_values={"mode": "fast"}, schema_values={"n": 4}
    )

    checked = check_params(preset, {"n": "8"}, parent)
    assert (checked.template_id, checked.params) == ("t", {"n": 8, "mode": "fast"})
    assert check_params(preset, {}, parent).params == {"n": 4, "mode": "fast"}
    with pytest.raises(InputError, match="mode is fixed by the preset at 'fast'"):
        check_params(preset, {"mode": "slow"}, parent)
    with pytest.raises(InputError, match="its parent 't' is not known"):
        check_params(preset, {})


@pytest.mark.parametrize(
    "body",
    [{"templates": [{"id": "a"}, {"name": "no id"}, "odd"]}, [{"id": "a"}]],
    ids=repr,
)
def test_a_list_of_templates_is_read_in_every_form(body):
    assert [each.template_id for each in read_templates(answer(body))] == ["a"]


def test_one_template_may_be_wrapped():
    assert read_template(answer({"template": {"id": "a"}})).template_id == "a"
    with pytest.raises(ProtocolError, match="no template"):
        read_template(answer({"error": ""}))


@pytest.mark.parametrize("odd", [None, 5, "x", {}, [1]], ids=repr)
def test_odd_fields_cost_only_themselves(odd):
    fields = dict.fromkeys(
        ("inputs", "parameters", "static_values", "schema_values", "kind", "description"), odd
    )

    assert template(**fields, parameters_too=odd).template_id == "t"
    assert one(options=odd, min=odd, max=odd, required=odd, widget=odd).params[0].name == "x"


def test_a_submit_has_two_forms():
    made = template(inputs=[{"key": "tpr", "role": "generic_path"}], parameters=[{"key": "n"}])
    checked = check_params(made, {"tpr": "shared/md.tpr", "n": 4})

    assert checked.body() == {"template_id": "t", "params": {"tpr": "shared/md.tpr", "n": "4"}}
    assert checked.run_body("run 1") == {
        "run_name": "run 1",
        "steps": [
            {
                "step_id": "main",
                "template_id": "t",
                "inputs": {"tpr": "shared/md.tpr"},
                "params": {"n": "4"},
            }
        ],
    }


def test_both_clients_get_templates(connect):
    body = FILES[0].read_text()
    with Wire(http(200, body.encode(), {"Content-Type": "application/json"})) as wire:
        assert connect(wire.url).get_template("casanovo").template_id == FILES[0].stem
    with Wire(http(200, {"templates": [{"id": "a"}]})) as wire:
        assert [each.template_id for each in connect(wire.url).list_templates()] == ["a"]


def test_a_template_that_nobody_knows_is_told(connect):
    said = http(404, {"error": 'template "mace-of" not found'})
    with Wire(said) as wire, pytest.raises(NotFoundError, match='"mace-of" not found'):
        connect(wire.url).get_template("mace-of")


@pytest.mark.parametrize("kind", ["number", "integer"])
@pytest.mark.parametrize("number", [2**53 + 1, -(2**63), 10**30])
def test_a_large_whole_number_is_exact(kind, number):
    assert taken(one(type=kind), number) == taken(one(type=kind), str(number)) == number


class Colour(str, Enum):  # noqa: UP042 - the older form, whose text is another one
    RED = "red"


class Size(IntEnum):
    LARGE = 3


def test_an_enum_stands_for_its_value():
    assert taken(one(type="text"), Colour.RED) == "red"
    assert taken(one(type="integer"), Size.LARGE) == 3
    assert taken(one(type="text", options=["red", "blue"]), Colour.RED) == "red"
    assert taken(one(type="env_map"), {Colour.RED: Colour.RED}) == {"red": "red"}
    assert taken(one(type="object"), {"a": [Colour.RED, Size.LARGE]}) == {"a": ["red", 3]}


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("object", {"when": date(2026, 1, 2)}, "x.when is datetime.date(2026, 1, 2), which JSON"),
        ("object", {"a": [1, {"b": float("nan")}]}, "x.a[1].b is nan, which JSON cannot hold"),
        ("object", [float("inf")], "x[0] is inf, which JSON cannot hold"),
        ("object", {"a": {1, 2}}, "x.a is {1, 2}, which JSON cannot hold"),
        ("object", {1: "a"}, "x has the key 1, and takes texts as keys"),
        ("object", {"a": {None: 1}}, "x.a has the key None, and takes texts as keys"),
        ("env_map", {"A": None}, "x: A is None, and takes one text"),
        ("env_map", {"A": [1]}, "x: A is [1], and takes one text"),
        ("env_map", '{"A": null}', "x: A is None, and takes one text"),
        ("number", "9" * 5000, "and takes a number"),
        ("number", float("nan"), "x is nan, and takes a number"),
    ],
    ids=repr,
)
def test_a_value_that_could_not_be_sent_is_refused_by_its_place(kind, value, words):
    with pytest.raises(InputError, match=re.escape(words)):
        taken(one(type=kind), value)


def test_a_preset_without_a_parent_is_told_so():
    with pytest.raises(InputError, match=r"does not say of which template .parent_id."):
        check_params(template(kind="preset"), {})
    with pytest.raises(InputError, match="its parent 'gone' is not known"):
        check_params(template(kind="preset", parent_id="gone"), {})


def test_a_fraction_in_the_place_of_a_whole_number_is_told():
    made = one(type="number", default=4)

    assert check_params(made, {"x": 4.5}).warnings == (
        "Template t: x is 4.5, and its default 4 is a whole number.",
    )
    assert check_params(made, {"x": "5"}).warnings == ()
    assert check_params(one(type="number", default=0.5), {"x": 4.5}).warnings == ()
