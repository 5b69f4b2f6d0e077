"""How fast Clawmend is, each figure beside a floor that is measured in the same run: `make bench`.

A ratio outlives the machine that it was measured on; a number of milliseconds does not. No test fails by a timing.
"""
