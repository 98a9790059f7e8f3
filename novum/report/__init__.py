"""Pictures and pages that show what was measured."""
