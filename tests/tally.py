#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tally.py RESULTS_DIR - counts the test cases of one ctest run, says which failed and what they said, and ends with
# the line "PASSED FAILED SKIPPED" of three numbers.
#
# RESULTS_DIR holds ctest.xml, which ctest wrote, and NAME.xml, which each googletest executable wrote. A script is one
# case. An executable that failed and does not say which case did (it crashed, or leaked at its end) is one failed case.
import os
import sys
import xml.etree.ElementTree as xml

SAID_LINES_MAX = 25


def outcome_of_case(case):
    if case.find("failure") is not None:
        return "failed"
    ran = case.get("status") == "run" and case.get("result") != "skipped" and case.find("skipped") is None
    return "passed" if ran else "skipped"


def report(name, text):
    lines = (text or "").strip().splitlines()
    print(f"FAILED {name}")
    if len(lines) > SAID_LINES_MAX:
        print(f"    ... {len(lines) - SAID_LINES_MAX} lines before")
    for line in lines[-SAID_LINES_MAX:]:
        print(f"    {line}")


def count_cases(test, results_dir, counts):
    name, said = test.get("name"), test.findtext("system-out") or ""
    succeeded = test.get("status") == "run"
    if test.get("status") == "disabled" or test.find("skipped") is not None:
        counts["skipped"] += 1
        return
    try:
        cases = list(xml.parse(os.path.join(results_dir, f"{name}.xml")).iter("testcase"))
    except (OSError, xml.ParseError):
        if succeeded and "[==========] Running" not in said:  # a script
            counts["passed"] += 1
            return
        cases = []

    named_failure = False
    for case in cases:
        outcome = outcome_of_case(case)
        counts[outcome] += 1
        if outcome == "failed":
            named_failure = True
            why = "\n".join(failure.text or "" for failure in case.findall("failure"))
            report(f"{name}: {case.get('classname')}.{case.get('name')}", why)
    if not named_failure and (not succeeded or not cases):
        counts["failed"] += 1
        report(name, said or "it did not run")


def main(results_dir):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    try:
        tests = list(xml.parse(os.path.join(results_dir, "ctest.xml")).iter("testcase"))
    except (OSError, xml.ParseError):
        tests = []
    if not tests:
        counts["failed"] = 1
        report("ctest", "it ran no tests")
    for test in tests:
        count_cases(test, results_dir, counts)
    print(counts["passed"], counts["failed"], counts["skipped"])


if __name__ == "__main__":
    main(sys.argv[1])
