"""Bodies of requests and answers, their limits and their validation. No I/O."""
