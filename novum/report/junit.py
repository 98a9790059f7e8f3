"""The criteria of a gate as JUnit XML, which CI servers show."""

from collections.abc import Sequence
from xml.etree import ElementTree

from novum.core.errors import printable
from novum.report.criteria import Check
from novum.report.model import Report


def junit(report: Report, checks: Sequence[Check]) -> str:
    """A test case for each criterion; the finding alone, which fails nothing, without any."""
    cases = checks or [Check("judged", True, report.verdict.text, 0)]
    failed = sum(not check.passed for check in cases)
    seconds = f"{(report.cost and report.cost.seconds) or 0:.3f}"
    counts = {"tests": str(len(cases)), "failures": str(failed), "errors": "0", "time": seconds}
    suite = ElementTree.Element("testsuite", {"name": "novum", **counts})
    properties = ElementTree.SubElement(suite, "properties")
    values = {"finding": str(report.finding), "quality": str(report.verdict.quality_finding)}
    for name, side in report.sides().items():
        values[f"{name}.fingerprint"] = side.fingerprint or ""
    for name, value in values.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": value})
    for check in cases:
        name = printable(check.name)
        case = ElementTree.SubElement(suite, "testcase", {"classname": "novum", "name": name})
        text = printable(check.message)
        if not check.passed:
            found = {"message": text, "type": str(report.finding)}
            ElementTree.SubElement(case, "failure", found).text = text
        else:
            ElementTree.SubElement(case, "system-out").text = text
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
