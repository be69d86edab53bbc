//! What does this word mean, and what do other libraries call it?
//!
//! Each entry links to the module or the type that implements the term. Two tables follow: words that are
//! [particular to this crate](#words-of-this-crate), and [names that other libraries use](#names-in-other-libraries).
//!
//! # Terms
//!
//! **Admission control**: deciding whether a call may begin before any work is done for it. Here [`load_shed`] decides
//! at once, [`load_level`] lets the call wait, and [`rate_limit`] can do either. An [`Admission`] is a stage of your
//! own that admits calls.
//!
//! **Amplification**: calls that arrive at a service for each call that a user made. Retries cause it. The
//! [`RetryBudget`] bounds it; the report of [`sim`] measures it.
//!
//! **Attempt**: one call of the service. A call through a stack with a [`retry`] may make several.
//!
//! **Backoff**: the wait before the next attempt, which usually grows from attempt to attempt: [`Backoff`].
//!
//! **Backpressure**: a sign to the sender that it should slow down. Tower's is `poll_ready`. A stack of this crate is
//! always ready and refuses instead, with a [`retry_after`](crate::Rejection::retry_after) where it knows one.
//!
//! **Burst**: the most tokens that a bucket holds. If each call costs one token, it is also the most calls that the
//! bucket admits at one instant: [`Quota`].
//!
//! **Cache line**: the block of memory, mostly 64 bytes, that the cores of a processor pass to each other. A counter
//! that all threads write moves its line from core to core in each call. The cost sections count such moves.
//!
//! **Censored sample**: a call that was given up. It took longer than its limit, and no more is known about it. A
//! [`Quantile`] learns from such calls, too.
//!
//! **Circuit breaker**: refuses calls to a service that fails, for a while: [`circuit_breaker`].
//!
//! **Class**: calls of one *criticality*. In [`sim`], the calls of one load.
//!
//! **Classifier**: decides what an answer means, such as a success, a failure or an overload: [`Classify`].
//!
//! **CoDel** (controlled delay): drops waiters by their *sojourn time*, not by the length of the queue.
//! [`Discipline::adaptive`] is the variant of Facebook's "Fail at Scale", with the newest call first under overload.
//!
//! **Concurrency limit**: the most calls *in flight*. [`Limiter`] is one that refuses, [`Queue`] one that lets calls
//! wait.
//!
//! **Constant work**: doing the same work whether nothing changed or everything did: [`constant_work`].
//!
//! **Consumer group**: a group of readers of a Redis Stream. Redis gives each message to one of them. The workers of a
//! durable queue ([`durable`]) form such a group.
//!
//! **Context**: the deadline, the criticality and the attempt of a call: [`CallContext`].
//!
//! **Criticality**: how much it matters that a call is answered, in four classes: [`Criticality`].
//!
//! **Dead letter**: a message that failed too often and was put aside, to be read or sent again: [`durable`].
//!
//! **Deadline**: the instant after which the caller no longer waits. A *timeout* is a duration; a deadline is an
//! instant and is passed on: [`deadlines`](super::deadlines).
//!
//! **Discipline**: the order in which a queue serves its waiters: [`Discipline`].
//!
//! **Exempt**: not subject to a limit, as health checks are: [`LoadShed::exempt`] for one limit,
//! [`ServerBuilder::exempt`] for all limits that the builder has when `exempt` is called.
//!
//! **Explanation**: the layers of a stack and its worst case, in words: [`Explanation`].
//!
//! **Fair share**: a bound on the places of one *tenant*, which leaves room for the others:
//! [`LimiterBuilder::fair_share`]. Also the part of a limit of many processes that one process applies while the
//! *store* is away: [`OnOutage`](crate::rate_limit::distributed::OnOutage).
//!
//! **False sharing**: different threads write different values in one *cache line*. The threads slow each other down
//! although they share no value.
//!
//! **False-timeout rate**: the share of calls that a timeout gives up although an answer would still have come:
//! [`Quantile`].
//!
//! **Flusher**: the background task of a limit of many processes, which reports to the store:
//! [`Flusher`](crate::rate_limit::distributed::Flusher).
//!
//! **GCRA** (generic cell rate algorithm): a *token bucket* that is computed from one number and the clock, so that no
//! timer refills it: [`TokenBucket`].
//!
//! **Goodput**: the calls that are answered in time, per second. The throughput also counts answers that come too late.
//!
//! **Guarantee**: places of a limit that only one *class* may use: [`LimiterBuilder::guarantee`].
//!
//! **Half-open**: the state of a circuit that lets a few *probes* through: [`BreakerState::HalfOpen`].
//!
//! **Handle**: a value whose clones share one state, such as a [`Breaker`] or a [`Limiter`]. Keep a clone to read the
//! state and to change the numbers of the mechanism.
//!
//! **Hedging**: sending a second attempt before the first one has ended, for a shorter tail of the latency. This crate
//! does not hedge.
//!
//! **Hint**: the time after which a service asks to be called again, such as `Retry-After`. See
//! [`max_hint`](crate::retry::Retry::max_hint).
//!
//! **In flight**: admitted and not yet ended. [`Limiter::in_flight`] counts such calls.
//!
//! **Inner, outer**: of two layers the inner one is nearer to the service: [`ordering`](super::ordering).
//!
//! **Instrument**: gives the readings of a mechanism to metrics: [`Instrument`].
//!
//! **Jitter**: a random part of a wait, so that clients that failed together do not come back together: [`Jitter`].
//!
//! **Kill switch**: refuses all calls of a live stack:
//! [`StackConfig::switched_off`](crate::stack::live::StackConfig::switched_off).
//!
//! **Learned timeout**: a timeout that follows from the latencies of the calls: [`Quantile`].
//!
//! **Lease**: tokens that a store lends to a process for a time, so that the process decides alone: [`Leased`].
//!
//! **Little's law**: the calls in flight are the calls per second times the mean latency. The default algorithm of an
//! adaptive limit uses it: [`Little`].
//!
//! **Load leveling**: a queue between callers and a service, so that the service takes work at its own pace:
//! [`load_level`].
//!
//! **Load shedding**: refusing calls for which there is no room, so that the others are answered: [`load_shed`].
//!
//! **Mechanism**: the part of a layer that decides, and its state, such as a [`Breaker`], a [`Limiter`] or a
//! [`RetryBudget`]. Mechanisms are *handles*.
//!
//! **Metastable failure**: an overload that stays after its cause has gone, because retries or late work keep it up.
//! [`sim`] shows whether a stack recovers.
//!
//! **Observer**: learns about each call and attempt of a stack, for metrics and traces: [`Observer`].
//!
//! **Open loop**: a load whose calls arrive whether or not earlier calls were answered. In a closed loop a slow service
//! slows its callers down, so that a test shows no collapse. [`sim`] has both.
//!
//! **Overflow**: the mechanism that new keys share while the table of keys is full and no key can be forgotten:
//! [`PerKey::overflow`]. In a [`Keyed`] it is a bucket: [`Overflow`](crate::rate_limit::Overflow).
//!
//! **Overload signal**: shows an overload that the calls do not show, such as the lag of the runtime. It lowers a
//! limit: [`LimiterBuilder::signal`].
//!
//! **Place, permit**: what an admitted call holds and gives back when it ends.
//!
//! **Probe**: a call by which a *half-open* circuit finds out whether the service works again. Also the calls by which
//! a process finds out whether its store is back
//! ([`probe_every`](crate::rate_limit::distributed::ExactBuilder::probe_every)).
//!
//! **Refill**: the tokens that a bucket gains over time, at the rate of its [`Quota`].
//!
//! **Rejection**: the refusal of a call, or its end, by a layer of this crate: [`Rejection`].
//!
//! **Reload**: taking over another configuration while the program runs. See [`live_limits`](super::live_limits).
//!
//! **Retry budget**: retries that calls earn and that all services of a layer share, so that retries stay within a
//! share of the traffic: [`RetryBudget`].
//!
//! **Shadow**: a limit in shadow counts the calls that it would refuse, and refuses none: [`Limiter::set_shadow`].
//!
//! **Slot**: the place of one layer in a stack. Each builder method fills one: [`Slot`].
//!
//! **Snapshot**: a whole configuration of fixed size, published in one piece: [`constant_work`].
//!
//! **Sojourn time**: how long a waiter has been in the queue. [`WaitedTooLong::waited`] states it.
//!
//! **Stack**: all layers around one service, as one tower service: [`stack`].
//!
//! **Store**: the server that keeps a limit for many processes, such as Redis:
//! [`Store`](crate::rate_limit::distributed::Store).
//!
//! **Tenant**: the user, customer or address that a call belongs to: [`LoadShed::tenant`], [`PerKey`], [`Keyed`].
//!
//! **Token bucket**: a rate limit. Tokens drip into a bucket at the rate, up to the *burst*; a call takes as many as it
//! costs: [`TokenBucket`]. A [`Keyed`] has one bucket for each key.
//!
//! **Verdict**: the decision of the *classifier* on one answer. All layers use it: [`Outcome`](crate::Outcome).
//!
//! **Waiter**: a call that waits in a queue or for tokens. Its future waits; nothing is spawned.
//!
//! **Weight**: how much of the bound of a queue a waiter takes: [`LoadLevel::weight`].
//!
//! # Words of this crate
//!
//! | word | meaning |
//! |---|---|
//! | border | where a call enters and leaves a stack; turns rejections into errors or responses: [`Border`](crate::shell::Border) |
//! | callee | the service of one call, which only the leaf calls: [`Callee`](crate::shell::Callee) |
//! | ending | how a call ended, as each stage learns it: [`Ending`](crate::shell::Ending) |
//! | era | the time between two changes of state of a breaker; a result counts only in the era that admitted its call |
//! | evidence | a result that counts for or against a service |
//! | frame | what the stages of one call share during one poll, such as the clock: [`Frame`](crate::shell::Frame) |
//! | full time | the attempt timeout, or without one the timeout of the stack. An attempt that a deadline ends before half of it does not count as a failure: [`Ending::CutShort`](crate::shell::Ending::CutShort) |
//! | gate | a stage that admits or refuses at once: [`Gate`](crate::shell::Gate) |
//! | leaf | the innermost stage, which calls the service: [`Leaf`](crate::shell::Leaf) |
//! | outcome | what an answer of the service means, for all layers: [`Outcome`](crate::Outcome) |
//! | pace | the rate at which a queue lets calls begin: [`QueueBuilder::pace`](crate::load_level::QueueBuilder::pace) |
//! | pass | the way of one call or attempt through all gates of a live stack, under one configuration: [`live`](crate::stack::live) |
//! | patience | how long a call or an attempt may take, fixed or learned: [`Patience`](crate::timeout::Patience) |
//! | peer | the other end of an HTTP connection; an internal one belongs to the same organization: [`Peer`] |
//! | series | probes of a half-open circuit that share one probe timeout; a probe that succeeds starts the next series, and so does the first call after a series has ended |
//! | settle | to give back what was taken for a call, and to count its result |
//! | shell | the one tower service around all stages: [`shell`](crate::shell) |
//! | stage | one layer inside a stack: [`Stage`](crate::shell::Stage) |
//! | stamp | writes to the request of each attempt, just before the service is called: [`Stamp`](crate::shell::Stamp) |
//! | turn | the moment at which a waiter is the next to be admitted |
//!
//! # Names in other libraries
//!
//! | name | where | here |
//! |---|---|---|
//! | adaptive concurrency | Envoy, Netflix concurrency-limits | [`Limiter::adaptive`] |
//! | bulkhead | resilience4j, Polly 7 | [`Limiter`] if it refuses, [`Queue`] if calls wait; [`PerKey`] for one for each tenant |
//! | buffer | tower | [`Queue`] |
//! | circuit breaking (`max_requests`, `max_pending_requests`) | Envoy | [`Limiter`], [`Queue`] |
//! | client-side adaptive throttling | Google SRE book | none; a [`RetryBudget`] bounds retries, and a [`Breaker`] stops calls to a service that fails |
//! | concurrency limit, semaphore | tower, Go | [`Limiter`], [`Queue`] |
//! | failure accrual | Finagle, linkerd | [`Breaker`] with [`consecutive_failures`](crate::circuit_breaker::BreakerBuilder::consecutive_failures) |
//! | fallback | Polly, resilience4j | a match on [`Error`]; see [`start`](super::start#handle-the-errors) |
//! | hedge | Polly, gRPC, tower | none |
//! | keyed rate limiter | governor | [`Keyed`] |
//! | leaky bucket | nginx | [`TokenBucket`]; with [`wait`](crate::rate_limit::RateLimit::wait), calls leave in the order of their arrival |
//! | outlier detection, max ejection percent | Envoy | [`PerKey`] of breakers, [`most_open`](crate::per_key::PerKey::most_open) |
//! | policy wrap, resilience pipeline | Polly | [`stack`] |
//! | priority | Envoy, Netflix | [`Criticality`] |
//! | retry quota, retry throttling | AWS SDKs, gRPC | [`RetryBudget`] |
//! | throttle | everywhere | [`rate_limit`] |
//! | time limiter | resilience4j | [`timeout`] |
//!
//! [`Admission`]: crate::shell::Admission
//! [`Backoff`]: crate::retry::Backoff
//! [`Breaker`]: crate::circuit_breaker::Breaker
//! [`BreakerState::HalfOpen`]: crate::circuit_breaker::BreakerState::HalfOpen
//! [`CallContext`]: crate::CallContext
//! [`Classify`]: crate::classify::Classify
//! [`Criticality`]: crate::Criticality
//! [`Discipline::adaptive`]: crate::load_level::Discipline::adaptive
//! [`Discipline`]: crate::load_level::Discipline
//! [`Error`]: crate::Error
//! [`Explanation`]: crate::shell::Explanation
//! [`Instrument`]: crate::shell::Instrument
//! [`Jitter`]: crate::retry::Jitter
//! [`Keyed`]: crate::rate_limit::Keyed
//! [`Leased`]: crate::rate_limit::distributed::Leased
//! [`Limiter::adaptive`]: crate::load_shed::Limiter::adaptive
//! [`Limiter::in_flight`]: crate::load_shed::Limiter::in_flight
//! [`Limiter::set_shadow`]: crate::load_shed::Limiter::set_shadow
//! [`LimiterBuilder::fair_share`]: crate::load_shed::LimiterBuilder::fair_share
//! [`LimiterBuilder::guarantee`]: crate::load_shed::LimiterBuilder::guarantee
//! [`LimiterBuilder::signal`]: crate::load_shed::LimiterBuilder::signal
//! [`Limiter`]: crate::load_shed::Limiter
//! [`Little`]: crate::load_shed::Little
//! [`LoadLevel::weight`]: crate::load_level::LoadLevel::weight
//! [`LoadShed::exempt`]: crate::load_shed::LoadShed::exempt
//! [`LoadShed::tenant`]: crate::load_shed::LoadShed::tenant
//! [`Observer`]: crate::shell::Observer
//! [`PerKey::overflow`]: crate::per_key::PerKey::overflow
//! [`PerKey`]: crate::per_key::PerKey
//! [`Quantile`]: crate::timeout::Quantile
//! [`Queue`]: crate::load_level::Queue
//! [`Quota`]: crate::rate_limit::Quota
//! [`Rejection`]: crate::Rejection
//! [`RetryBudget`]: crate::retry::RetryBudget
//! [`ServerBuilder::exempt`]: crate::stack::ServerBuilder::exempt
//! [`Slot`]: crate::stack::Slot
//! [`TokenBucket`]: crate::rate_limit::TokenBucket
//! [`WaitedTooLong::waited`]: crate::error::WaitedTooLong::waited
//! [`circuit_breaker`]: crate::circuit_breaker
//! [`load_level`]: crate::load_level
//! [`load_shed`]: crate::load_shed
//! [`rate_limit`]: crate::rate_limit
//! [`retry`]: crate::retry
//! [`stack`]: crate::stack
//! [`timeout`]: crate::timeout
#![cfg_attr(feature = "constant-work", doc = "[`constant_work`]: crate::constant_work")]
#![cfg_attr(feature = "http", doc = "[`Peer`]: crate::http::Peer")]
#![cfg_attr(feature = "redis", doc = "[`durable`]: crate::load_level::durable")]
#![cfg_attr(feature = "sim", doc = "[`sim`]: crate::sim")]
#![cfg_attr(not(feature = "constant-work"), doc = "[`constant_work`]: crate#features")]
#![cfg_attr(not(feature = "http"), doc = "[`Peer`]: crate#features")]
#![cfg_attr(not(feature = "redis"), doc = "[`durable`]: crate#features")]
#![cfg_attr(not(feature = "sim"), doc = "[`sim`]: crate#features")]
