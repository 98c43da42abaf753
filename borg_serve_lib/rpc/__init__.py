"""The RPC dispatcher: which calls there are, who may make them, and what comes back."""
