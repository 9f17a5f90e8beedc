"""All that is known of certificates: what files hold, the contexts made of them, what has to be reported."""
