"""How fast and how lean is a whole training run? Every case is a real run of the product in a process of its own.

    python -m benchmarks rates --work /tmp/bench --only 'sd15*' --out rates.md
    python -m benchmarks sd15:1 sd15:1:te:engine.graph=off --work /tmp/bench --steps 60

A row is printed as one JSON line as soon as it is measured; the table follows at the end. --write puts it into
RESULTS.md, --out into another file, with the JSON beside it; both are written anew after every case.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.cases import ALL, PROFILES, Case, parse_case
from benchmarks.peers import Checkouts
from benchmarks.report import RESULTS, Report, facts, insert, section
from benchmarks.suite import Options, measure


def read_arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    profiles = "\n".join(f"{name}: {' '.join(profile.cases)}" for name, profile in PROFILES.items())
    parser.epilog = f"profiles:\n{profiles}"
    add = parser.add_argument
    add("wanted", nargs="+", metavar="PROFILE|CASE", help="see below; a case is MODEL:BATCH[:WORD...]")
    add("--work", type=Path, required=True, help="folder for bases, pictures and runs; kept and used again")
    add("--only", action="append", default=[], metavar="PATTERN", help="only cases like this (* for anything)")
    add("--steps", type=int, help="steps of every case, the warm-up included; else enough for ten seconds")
    add("--yardsticks", help=f"of {','.join(ALL)}, or none; else as the profile has them")
    add("--seconds", type=float, default=float("inf"), help="begin no other case after so many")
    add("--case-seconds", type=float, default=400.0, help="end a case that takes longer")
    add("--ceiling-script", type=Path, help="prints the bare steps in the place of benchmarks.ceiling")
    add("--kohya", type=Path, help="a checkout of sd-scripts")
    add("--kohya-site", type=Path, help="folder with the libraries that it needs")
    add("--diffusers-examples", type=Path, help="folder with train_text_to_image_lora.py and its SDXL twin")
    add("--diffusers-site", type=Path, help="folder with the libraries that these need besides ours")
    add("--commit", default="", help="where this is no git checkout")
    add("--write", action="store_true", help="put the table into benchmarks/RESULTS.md")
    add("--out", type=Path, metavar="FILE.md", help="write the table here, and FILE.json")
    return parser.parse_args(given)


def choose(options: argparse.Namespace) -> tuple[list[Case], list[str]]:
    """The cases of a call, each once, and the yardsticks beside them.

    Raises:
        ValueError: a word is neither a profile nor a case, or no case is left.
    """
    profiles = [PROFILES[word] for word in options.wanted if word in PROFILES]
    names = [name for word in options.wanted for name in (PROFILES[word].cases if word in PROFILES else [word])]
    kept = [
        name for name in dict.fromkeys(names) if not options.only or any(fnmatch(name, one) for one in options.only)
    ]
    if not kept:
        raise ValueError(f"no case is left; there were: {' '.join(names)}")
    cases = [parse_case(name) for name in kept]
    if options.steps:
        cases = [replace(case, steps=options.steps) for case in cases]
    if options.yardsticks is not None:
        return cases, [name for name in options.yardsticks.split(",") if name in ALL]
    return cases, [name for name in ALL if any(name in one.yardsticks for one in profiles)]


def main(given: Sequence[str] | None = None) -> int:
    """Measure what was asked for; 1 where a case failed, 2 where nothing could be measured."""
    options = read_arguments(given)
    try:
        cases, yardsticks = choose(options)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    work, script = options.work.resolve(), options.ceiling_script and options.ceiling_script.resolve()
    places = Checkouts(options.kohya, options.kohya_site, options.diffusers_examples, options.diffusers_site)
    how = Options(work, yardsticks, options.case_seconds, options.seconds, script, places)
    command = shlex.join(["python", "-m", "benchmarks", *(sys.argv[1:] if given is None else given)])
    report = Report(command, facts(options.commit))
    before = RESULTS.read_text("utf-8")

    def keep() -> None:
        if options.out:
            options.out.write_text(section(report), "utf-8")
            options.out.with_suffix(".json").write_text(json.dumps(report.said(), indent=1), "utf-8")
        if options.write:
            RESULTS.write_text(insert(before, section(report)), "utf-8")

    measure(cases, how, report, keep)
    print(f"\n{section(report)}")
    return int(any(row.code for row in report.rows))


if __name__ == "__main__":
    sys.exit(main())
