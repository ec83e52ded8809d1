"""The eight little systems that BFCL's conversations act on.

In: a starting state from the pack. Out: objects whose methods are the pack's functions.
Must not know: models, conversations, scores.

They behave as the public ones do (bfcl-eval 2026.3.23; a test compares both on recorded calls):
same results, same effects, same random numbers, since right calls name identifiers that were drawn.
Names of methods and parameters are the pack's. What is refused is said in our words, with one
sentence for each reason, as two refusals are the same result only if they say the same.
The padding that the long-context questions add is not there.
"""
