"""Which images show a concept, and why; released safety checkers; audits of both."""
