"""The shapes of the answers, for the documentation only: what is sent is serialised once, by app.api.views.

No field may be missing, and none be there that is not named here: tests/api/test_contract.py holds real answers against
these.
"""
