"""Mutation testing: what the decision, the splice and the repair say is changed a little, and some test must notice.

    python -m tests.mutants app/domain/verdict.py     every mutant of a module; all modules without a name
    python -m tests.mutants MODULE --function NAME    those of one function; --each says what became of each mutant

The mutations are mutmut's, the runner is ours: mutmut's leaves out properties, constants and the defaults of
dataclasses (here: the windows), and names a mutant by a number that moves with every edit. A survivor is either a test
that is missing, code that is not needed, or it stands in `survivors.toml` with the reason why no test can tell.
"""
