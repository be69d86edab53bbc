//! One mechanism for each key: a circuit breaker for each host, a limit for each tenant.
