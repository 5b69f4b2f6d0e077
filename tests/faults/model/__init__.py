"""A state machine over a real Reconciler on a real folder, held against a plain model of what the gateway wrote."""
