"""Malformed study files, each with the line and the words that its refusal must contain.

Every file is `WELL_FORMED` with one thing wrong. They name the workload 'digits' and no axis of
its own, so that the table also runs through the command line.
"""

__all__ = ["MALFORMED", "WELL_FORMED"]

WELL_FORMED = """\
name: malformed
workload: digits
seeds: 2
grids:
  curve:
    dataset_fraction: [0.5, 1.0]
    model_size: 16
    batch_size: 8
    learning_rate: 0.1
    momentum: 0.9
    budget: {epochs: 2}
"""


def _line(key: str, *lines: str) -> str:
    """Return the well-formed file with the line of `key` replaced by `lines`."""
    given = WELL_FORMED.splitlines()
    at = next(i for i, line in enumerate(given) if line.strip().startswith(f"{key}:"))
    indent = given[at][: len(given[at]) - len(given[at].lstrip())]
    given[at : at + 1] = [indent + line for line in lines]
    return "\n".join(given) + "\n"


def _grid_line(line: str) -> str:
    """Return the well-formed file with one more line, the twelfth, in its grid."""
    return f"{WELL_FORMED}    {line}\n"


def _top_line(line: str) -> str:
    """Return the well-formed file with one more line, the twelfth, at the top level."""
    return f"{WELL_FORMED}{line}\n"


def _where(condition: str) -> str:
    return _grid_line(f"where: {condition!r}" if "'" not in condition else f'where: "{condition}"')


_LANGUAGE = (
    "allowed: names, numbers, quoted text, < <= > >= == !=, and, or, not, + - * / and parentheses."
)
_FILE_NAME = "allowed: 1 to 64 letters, digits, '_', '.' and '-', the first a letter or digit"
_BUDGETS = "allowed: {0}one of {{steps: n}}, {{epochs: n}}, {{examples: n}}, "
_FORMS = "allowed: one value, a list, {values: [...]}, {log2: [lo, hi]} or {log: [lo, hi], points:"

MALFORMED: list[tuple[str, str, str]] = [
    # The file as such.
    ("empty file", "", ":1: the file is empty; write a study"),
    ("only a comment", "# nothing\n", ":1: the file is empty; write a study"),
    ("a list at the top", "- name: x\n", ":1: [{'name': 'x'}] (a list); allowed: a mapping"),
    ("text at the top", "hello\n", ":1: 'hello' (text); allowed: a mapping with keys name,"),
    ("unclosed bracket", _line("budget", "budget: {epochs: 2"), ":12: not valid YAML: "),
    ("indented with a tab", _line("budget", "\tbudget: 2"), ":11: not valid YAML: "),
    ("two documents", _top_line("---\nname: y"), ":12: a second YAML document begins"),
    ("control character", _line("name", "name: a\x00b"), ":1: character '\\x00' is not allowed"),
    (
        "half a character",
        _line("name", 'name: "caf\\ud800"'),
        ":1: 'caf\\ud800' has '\\ud800', half a character (a surrogate); allowed: whole ones.",
    ),
    (
        "half a character in a key",
        _grid_line('"\\udc00": 1'),
        ":12: '\\udc00' has '\\udc00', half a character",
    ),
    ("too large", _top_line("#" * 1_000_000), ":1: the study has more than 1000000 bytes"),
    (
        "duplicate key",
        _grid_line("momentum: 0.5"),
        ":12: key 'momentum' is a duplicate of line 10; keep one",
    ),
    (
        "duplicate grid",
        _grid_line("x: 1\n  curve: {}"),
        ":13: key 'curve' is a duplicate of line 5",
    ),
    ("number as key", _grid_line("8: 1"), ":12: key 8 is not text; allowed: text. Quote it."),
    (
        "list as key",
        _grid_line("? [a]\n    : 1"),
        ":12: a key is a list or a mapping; allowed: text. Quote it.",
    ),
    (
        "tag that makes an object",
        _line("name", "name: !!python/object/apply:os.system ['true']"),
        ":1: tag tag:yaml.org,2002:python/object/apply:os.system is not allowed",
    ),
    (
        "tag on a key",
        _line("name", "!!python/name:os.system name: x"),
        ":1: tag tag:yaml.org,2002:python/name:os.system is not allowed",
    ),
    (
        "tag that converts",
        _line("batch_size", "batch_size: !!int '8'"),
        ":8: tag tag:yaml.org,2002:int is not allowed; write the value alone",
    ),
    (
        "unknown optimizer",
        _grid_line("optimizer: sdg"),
        ":12: grid 'curve': optimizer is 'sdg'; allowed: one of sgd, nesterov, adam, adamw.",
    ),
    (
        "adam without its beta",
        _line("momentum", "optimizer: [sgd, adam]"),
        ":10: grid 'curve': optimizer adam takes momentum as its beta 1, and momentum is missing",
    ),
    (
        "unknown schedule",
        _grid_line("learning_rate_schedule: exponential"),
        ":12: grid 'curve': learning_rate_schedule is 'exponential': 'exponential' is no schedule; "
        "allowed: constant, cosine, linear, inverse:k (k > 0), step:k@p",
    ),
    (
        "schedule without shares",
        _grid_line("learning_rate_schedule: step:5"),
        ":12: grid 'curve': learning_rate_schedule is 'step:5': it names no shares of training",
    ),
    (
        "schedule that a list takes apart",
        _grid_line("learning_rate_schedule: [constant, step:5@0.3, 0.6]"),
        ":12: grid 'curve': learning_rate_schedule is 0.6 (float); allowed: constant, cosine",
    ),
    (
        "one schedule in two wordings",
        _grid_line("learning_rate_schedule: [step:5@0.5, step:5.0@.5]"),
        ":12: grid 'curve': learning_rate_schedule lists 'step:5@0.5' twice",
    ),
    (
        "batch that shrinks",
        _grid_line("batch_size_schedule: increase:0.5@0.5"),
        ":12: grid 'curve': batch_size_schedule is 'increase:0.5@0.5': its factor 0.5 is not in",
    ),
    (
        "aliases that multiply",
        _line("seeds", "seeds: &a [1, 2]", "resources: [*a, *a]"),
        ":3: anchor &a is not allowed; repeat the value",
    ),
    ("alias of nothing", _line("seeds", "seeds: *a"), ":3: alias *a is not allowed"),
    (
        "merge key",
        _grid_line("<<: {momentum: 0.5}"),
        ":12: grid 'curve': unknown key '<<'. Allowed: budget, where, seeds, dataset_fraction,",
    ),
    (
        "lists inside each other",
        _line("batch_size", f"batch_size: {'[' * 50_000}"),
        ":8: more than 20 lists and mappings inside each other",
    ),
    (
        "a value as long as a book",
        _line("batch_size", f"batch_size: {'8' * 20_000}"),
        ":8: a value has 20000 characters; allowed: at most 1000.",
    ),
    (
        "integer beyond 64 bits",
        _line("batch_size", "batch_size: 9223372036854775808"),
        ":8: integer 9223372036854775808 is too large; allowed: at most 9223372036854775807.",
    ),
    # The top level.
    (
        "unknown key",
        _top_line("seed: 3"),
        ":12: unknown key 'seed'. Did you mean 'seeds'? Allowed: name, workload, seeds, grids, res",
    ),
    ("missing name", _line("name"), ":1: name is missing; add name: 1 to 64 letters, digits"),
    ("missing workload", _line("workload"), ":1: workload is missing; add workload: the name of"),
    ("name with a slash", _line("name", "name: ../x"), f":1: name is '../x' (text); {_FILE_NAME}"),
    ("name with a line end", _line("name", 'name: "x\\n"'), f"name is 'x\\n' (text); {_FILE_NAME}"),
    ("name too long", _line("name", f"name: {'x' * 65}"), f"... (text); {_FILE_NAME}"),
    ("name that is a number", _line("name", "name: 2017"), ":1: name is 2017 (an integer); allowe"),
    ("empty name", _line("name", "name:"), f":1: name is empty; {_FILE_NAME}"),
    (
        "unknown workload",
        _line("workload", "workload: digit"),
        ":2: Unknown workload 'digit'. Available: ",
    ),
    (
        "workload that is a list",
        _line("workload", "workload: [digits]"),
        ":2: workload is ['digits'] (a list); allowed: the name of a workload in quotes",
    ),
    ("no seeds at all", _line("seeds"), ":4: grid 'curve': seeds is missing; add seeds, how many"),
    ("zero seeds", _line("seeds", "seeds: 0"), ":3: seeds is 0 (an integer); allowed: how many"),
    ("negative count of seeds", _line("seeds", "seeds: -1"), ":3: seeds is -1 (an integer); allow"),
    ("half a seed", _line("seeds", "seeds: 2.5"), ":3: seeds is 2.5 (a number); allowed: how many"),
    ("true as seeds", _line("seeds", "seeds: true"), ":3: seeds is True (true or false); allowed:"),
    (
        "a negative seed",
        _line("seeds", "seeds: [0, -1]"),
        ":3: seed is -1; allowed: an integer in [0, inf).",
    ),
    (
        "duplicate seeds",
        _line("seeds", "seeds:", "- 1", "- 2", "- 1.0"),
        ":6: seed lists 1 twice (as 1 and 1.0); allowed: different values.",
    ),
    ("empty seeds", _line("seeds", "seeds: []"), ":3: seed lists 0 values; allowed: 1 to 10000"),
    ("too many seeds", _line("seeds", "seeds: 10001"), "(an integer in [1, 10000])"),
    (
        "no grids",
        "name: x\nworkload: digits\nseeds: 1\ngrids: {}\n",
        ":4: grids is {} (a mapping); allowed: a mapping from names to grids, at least one.",
    ),
    (
        "grids in a list",
        "name: x\nworkload: digits\ngrids:\n- batch_size: 8\n",
        ":3: grids is [{'batch_size': 8}] (a list); allowed: a mapping from names to grids",
    ),
    (
        "an empty grid",
        "name: x\nworkload: digits\nseeds: 1\ngrids:\n  curve:\n",
        ":5: grid 'curve': empty; allowed: a mapping with keys budget, where, seeds, dataset_fr",
    ),
    (
        "grid with a slash",
        _line("curve", "a/b:"),
        f":5: grid name 'a/b' is not usable; {_FILE_NAME}",
    ),
    # Resources.
    (
        "unknown resource",
        _top_line("resources: {cpus: 1, gpu: 1}"),
        ":12: resources: unknown key 'gpu'. Did you mean 'gpus'? Allowed: cpus, gpus, workers, ",
    ),
    (
        "fewer workers than GPUs",
        _top_line("resources: {cpus: 1, gpus: 4, workers: 2}"),
        ":12: resources: workers is 2 for 4 GPUs; allowed: one worker a GPU, or any number of wor",
    ),
    (
        "workers of a share of a GPU",
        _top_line("resources: {cpus: 1, gpus: 0.5, workers: 2}"),
        ":12: resources: workers is 2 for 0.5 GPUs; allowed: one worker a GPU",
    ),
    (
        "workers that share a whole GPU",
        _top_line("resources: {cpus: 1, gpus: 1, workers: 2}"),
        ":12: resources: workers is 2 for 1 GPU; allowed: one worker a GPU",
    ),
    (
        "a share of a GPU that is next to nothing",
        _top_line("resources: {cpus: 1, gpus: 1e-5}"),
        ":12: resources: gpus is 1e-05 (a number); allowed: 0, a share of a GPU in [0.0001, 1)",
    ),
    (
        "no worker",
        _top_line("resources: {cpus: 1, gpus: 0, workers: 0}"),
        ":12: resources: workers is 0 (an integer); allowed: a whole number of workers in [1, 4",
    ),
    (
        "a model of GPU without GPUs",
        _top_line("resources: {cpus: 1, gpus: 0, accelerator_type: A100}"),
        ":12: resources: accelerator_type is 'A100', but gpus is 0; allowed: only where there are",
    ),
    (
        "a model of GPU that is no name",
        _top_line("resources: {cpus: 1, gpus: 1, accelerator_type: A 100}"),
        ":12: resources: accelerator_type is 'A 100' (text); allowed: Ray's name of the",
    ),
    (
        "CPUs as a custom resource",
        _top_line("resources: {cpus: 1, gpus: 0, custom: {CPU: 2}}"),
        ":12: resources: custom is {'CPU': 2} (a mapping); allowed: a mapping from names of custom",
    ),
    (
        "none of a custom resource",
        _top_line("resources: {cpus: 1, gpus: 0, custom: {disk: 0}}"),
        ":12: resources: custom is {'disk': 0} (a mapping); allowed: a mapping from names",
    ),
    (
        "one and a half GPUs",
        _top_line("resources: {cpus: 1, gpus: 1.5}"),
        ":12: resources: gpus is 1.5 (a number); allowed: 0, a share of a GPU in [0.0001, ",
    ),
    (
        "no CPU",
        _top_line("resources: {cpus: 0, gpus: 0}"),
        ":12: resources: cpus is 0 (an integer); allowed: a number of CPU cores in [0.0001, 1e6]",
    ),
    (
        "true as CPUs",
        _top_line("resources: {cpus: true, gpus: 0}"),
        ":12: resources: cpus is True (true or false); allowed: a number of CPU cores",
    ),
    (
        "infinitely many GPUs",
        _top_line("resources: {cpus: 1, gpus: .inf}"),
        ":12: resources: gpus is inf (a number); allowed: 0, a share of a GPU",
    ),
    (
        "missing GPUs",
        _top_line("resources: {cpus: 1}"),
        ":12: resources: gpus is missing; add gpus",
    ),
    (
        "empty resources",
        _top_line("resources: []"),
        ":12: resources is [] (a list); allowed: {cpus",
    ),
    (
        "last rule with a bound",
        _top_line("resources:\n- {cpus: 1, gpus: 0, up_to_parameters: 1e6}"),
        ":13: resources: rule 1 of 1 has up_to_parameters 1e+06; allowed: a bound that rises",
    ),
    (
        "rules that fall",
        _top_line(
            "resources:\n"
            "- {cpus: 1, gpus: 0, up_to_parameters: 1e6}\n"
            "- {cpus: 1, gpus: 1, up_to_parameters: 1e5}\n"
            "- {cpus: 1, gpus: 2}"
        ),
        ":14: resources: rule 2 of 3 has up_to_parameters 100000; allowed: a bound that rises",
    ),
    (
        "rule without bound in the middle",
        _top_line("resources:\n- {cpus: 1, gpus: 0}\n- {cpus: 1, gpus: 1}"),
        ":13: resources: rule 1 of 2 has up_to_parameters unstated; allowed: a bound that rises",
    ),
    # Axes.
    (
        "unknown axis",
        _grid_line("bach_size: 3"),
        ":12: grid 'curve': unknown key 'bach_size'. Did you mean 'batch_size'? Allowed: budget,",
    ),
    (
        "missing axis",
        _line("batch_size"),
        ":5: grid 'curve': batch_size is missing; add batch_size: an integer in [1, inf).",
    ),
    ("missing model size", _line("model_size"), ":5: grid 'curve': model_size is missing; add"),
    (
        "empty axis",
        _line("batch_size", "batch_size: []"),
        ":8: grid 'curve': batch_size lists 0 values; allowed: 1 to 10000, each an integer in [1",
    ),
    (
        "axis without a value",
        _line("batch_size", "batch_size:"),
        ":8: grid 'curve': batch_size is empty; allowed: an integer in [1, inf).",
    ),
    (
        "fraction 0",
        _line("dataset_fraction", "dataset_fraction: 0"),
        ":6: grid 'curve': dataset_fraction is 0; allowed: a number in (0, 1].",
    ),
    (
        "fraction above 1",
        _line("dataset_fraction", "dataset_fraction:", "- 0.5", "- 1.5"),
        ":8: grid 'curve': dataset_fraction is 1.5; allowed: a number in (0, 1].",
    ),
    (
        "momentum 1",
        _line("momentum", "momentum: 1"),
        ":10: grid 'curve': momentum is 1; allowed: a number in [0, 1).",
    ),
    (
        "negative learning rate",
        _line("learning_rate", "learning_rate: -0.1"),
        ":9: grid 'curve': learning_rate is -0.1; allowed: a number in (0, inf).",
    ),
    (
        "learning rate that is no number",
        _line("learning_rate", "learning_rate: .nan"),
        ":9: grid 'curve': learning_rate is nan; allowed: a number in (0, inf).",
    ),
    (
        "infinite learning rate",
        _line("learning_rate", "learning_rate: [0.1, 1e999]"),
        ":9: grid 'curve': learning_rate is inf; allowed: a number in (0, inf).",
    ),
    (
        "half an example",
        _line("batch_size", "batch_size: 2.5"),
        ":8: grid 'curve': batch_size is 2.5 (float); allowed: an integer in [1, inf).",
    ),
    (
        "quoted number",
        _line("batch_size", "batch_size: '8'"),
        ":8: grid 'curve': batch_size is '8' (str); allowed: an integer in [1, inf). Write a plain",
    ),
    (
        "underscored number",
        _line("batch_size", "batch_size: 1_000"),
        ":8: grid 'curve': batch_size is '1_000' (str); allowed: an integer in [1, inf). Write a",
    ),
    (
        "true as batch size",
        _line("batch_size", "batch_size: true"),
        ":8: grid 'curve': batch_size is True (bool); allowed: an integer in [1, inf).",
    ),
    (
        "list in a list",
        _line("batch_size", "batch_size: [[8]]"),
        ":8: grid 'curve': batch_size is [8] (a list); allowed: an integer in [1, inf).",
    ),
    (
        "the same value twice",
        _line("learning_rate", "learning_rate: [0.1, 0.2, 1e-1]"),
        ":9: grid 'curve': learning_rate lists 0.1 twice (as 0.1 and 0.1); allowed: different",
    ),
    (
        "unknown form",
        _line("batch_size", "batch_size: {linear: [1, 8]}"),
        f":8: grid 'curve': batch_size is {{'linear': [1, 8]}} (a mapping); {_FORMS}",
    ),
    (
        "two forms",
        _line("batch_size", "batch_size: {log2: [1, 8], values: [3]}"),
        _FORMS,
    ),
    ("log without points", _line("batch_size", "batch_size: {log: [1, 8]}"), _FORMS),
    (
        "values that are none",
        _line("batch_size", "batch_size: {values: 8}"),
        ":8: grid 'curve': values of batch_size is 8 (an integer); allowed: a list.",
    ),
    (
        "log2 from high to low",
        _line("batch_size", "batch_size: {log2: [8, 1]}"),
        ":8: grid 'curve': log2 of batch_size runs from 8 to 1; allowed: 0 < lo < hi.",
    ),
    (
        "log2 from zero",
        _line("batch_size", "batch_size: {log2: [0, 8]}"),
        ":8: grid 'curve': batch_size is 0; allowed: an integer in [1, inf).",
    ),
    (
        "log2 from zero on an axis that has it",
        _line("momentum", "momentum: {log2: [0, 0.5]}"),
        ":10: grid 'curve': log2 of momentum runs from 0 to 0.5; allowed: 0 < lo < hi.",
    ),
    (
        "log2 that misses its end",
        _line("batch_size", "batch_size: {log2: [1, 500]}"),
        ":8: grid 'curve': log2 of batch_size doubles from 1 and misses 500; allowed: an upper e",
    ),
    (
        "log2 of three",
        _line("batch_size", "batch_size: {log2: [1, 2, 4]}"),
        ":8: grid 'curve': log2 of batch_size is [1, 2, 4] (a list); allowed: [lo, hi], two num",
    ),
    (
        "one point",
        _line("learning_rate", "learning_rate: {log: [0.1, 1], points: 1}"),
        ":9: grid 'curve': points of learning_rate is 1 (an integer); allowed: an integer in [2,",
    ),
    (
        "a billion points",
        _line("learning_rate", "learning_rate: {log: [1, 2], points: 1000000000}"),
        "points of learning_rate is 1000000000 (an integer); allowed: an integer in [2, 10000].",
    ),
    (
        "points between integers",
        _line("batch_size", "batch_size: {log: [1, 100], points: 4}"),
        ":8: grid 'curve': log of batch_size with 4 points gives 4.64159; allowed: an integer",
    ),
    (
        "points closer than a cell's identity tells",
        _line("learning_rate", "learning_rate: {log: [0.1, 0.10000000001], points: 1000}"),
        "gives the same value twice; allowed: values that differ in 12 digits. Lower points.",
    ),
    # Budget.
    ("no budget", _line("budget"), ":5: grid 'curve': budget is missing; add budget: {steps: n}"),
    (
        "two budgets",
        _line("budget", "budget: {epochs: 2, steps: 3}"),
        ":11: grid 'curve': budget is {'epochs': 2, 'steps': 3} (a mapping); "
        + _BUDGETS.format("exactly "),
    ),
    (
        "budget without a unit",
        _line("budget", "budget: 100"),
        ":11: grid 'curve': budget is 100 (an integer); " + _BUDGETS.format("exactly "),
    ),
    (
        "budget in hours",
        _line("budget", "budget: {hours: 2}"),
        ":11: grid 'curve': budget counts 'hours'; " + _BUDGETS.format(""),
    ),
    (
        "budget of no steps",
        _line("budget", "budget: {steps: 0}"),
        ":11: grid 'curve': budget: steps is 0; allowed: an integer in [1, inf).",
    ),
    (
        "negative epochs",
        _line("budget", "budget: {epochs: -2}"),
        ":11: grid 'curve': budget: epochs is -2; allowed: a number in (0, inf).",
    ),
    (
        "budget without an amount",
        _line("budget", "budget: {epochs: }"),
        ":11: grid 'curve': budget: epochs is empty; allowed: a number in (0, inf).",
    ),
    # Constraints.
    (
        "code in where",
        _where("__import__('os').system('true')"),
        ":12: grid 'curve': where, column 1: unknown name '__import__'. Allowed: ",
    ),
    (
        "call in where",
        _where("batch_size(3) < 4"),
        ":12: grid 'curve': where, column 11: unexpected '('; " + _LANGUAGE,
    ),
    (
        "attribute in where",
        _where("batch_size.real < 4"),
        ":12: grid 'curve': where, column 11: unexpected '.'; " + _LANGUAGE,
    ),
    (
        "power in where",
        _where("9 ** 9 ** 9 < batch_size"),
        ":12: grid 'curve': where, column 3: unexpected '**'; " + _LANGUAGE,
    ),
    (
        "lambda in where",
        _where("(lambda: 1)() == 1"),
        ":12: grid 'curve': where, column 2: unknown name 'lambda'. Allowed: ",
    ),
    (
        "subscript in where",
        _where("batch_size[0] < 4"),
        ":12: grid 'curve': where, column 11: unexpected '['; " + _LANGUAGE,
    ),
    (
        "assignment in where",
        _where("batch_size = 4"),
        ":12: grid 'curve': where, column 12: unexpected '='; write ==; " + _LANGUAGE,
    ),
    (
        "text that does not end",
        _grid_line('where: "model_size == \'x"'),
        """:12: grid 'curve': where, column 15: unexpected "'"; """ + _LANGUAGE,
    ),
    (
        "where that stops",
        _where("batch_size <"),
        ":12: grid 'curve': where, column 13: ends too early; " + _LANGUAGE,
    ),
    ("empty where", _where(""), ":12: grid 'curve': where, column 1: ends too early; " + _LANGUAGE),
    (
        "where that is true",
        _grid_line("where: true"),
        ":12: grid 'curve': where is True (true or false); allowed: a condition as text, like",
    ),
    (
        "a number as condition",
        _where("batch_size"),
        ":12: grid 'curve': where, column 1: here stands a number; allowed here: a condition",
    ),
    (
        "misspelt name in where",
        _where("batchsize < 3"),
        ":12: grid 'curve': where, column 1: unknown name 'batchsize'. Did you mean 'batch_size'?",
    ),
    (
        "text below a number",
        _where("batch_size < 'big'"),
        ":12: grid 'curve': where, column 12: '<' compares a number with text; allowed: numbers",
    ),
    (
        "sum of conditions",
        _where("(batch_size < 3) + 1 > 0"),
        ":12: grid 'curve': where, column 2: here stands a condition; allowed here: a number.",
    ),
    (
        "huge where",
        _where(" or ".join(["batch_size < 3"] * 40)),
        ":12: grid 'curve': where has 716 characters; allowed: at most 500.",
    ),
    (
        "deep where",
        _where("(" * 21 + "1 < 2" + ")" * 21),
        ":12: grid 'curve': where, column 22: more than 20 levels inside each other",
    ),
    (
        "deep signs in where",
        _where("-" * 400 + "1 < 2"),
        ":12: grid 'curve': where, column 22: more than 20 levels inside each other",
    ),
]
"""(what is wrong, the file, a part of the message that begins at the line where there is room)."""
