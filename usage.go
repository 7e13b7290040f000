package lambent

import "time"

// Outcomes of an attempt, as ledger and metrics spell them.
const (
	OutcomeOK = "ok" // otherwise a FaultKind
)

// Why an instance was initialised, in AWS's words.
const (
	InitOnDemand    = "on-demand"
	InitProvisioned = "provisioned-concurrency" // it is one of those that are kept ready
)

// A Usage is the raw facts of one attempt: what was used, not what it costs.
// Price books turn usages into money. Its identity is ID and Attempt.
type Usage struct {
	ID       string    `json:"id"`
	Attempt  int       `json:"attempt"`
	Project  string    `json:"project"`
	Function string    `json:"function"`
	Version  string    `json:"version"`
	Alias    string    `json:"alias,omitempty"`
	Trigger  string    `json:"trigger"` // "invoke", "http", or a source's kind
	Runtime  string    `json:"runtime"`
	Guest    string    `json:"guest,omitempty"` // the runtime's; empty: in a record of when it was not recorded
	Instance string    `json:"instance"`
	InitType string    `json:"init_type,omitempty"` // of the instance; "": there was none
	Start    time.Time `json:"start"`               // the request arrived
	End      time.Time `json:"end"`                 // the answer's last byte was ready
	// Where the time went, in its order: InitUS and PlaceUS are 0 on a warm start.
	QueueUS   int64 `json:"queue_us"`             // waited for an instance, or for the start of one
	PlaceUS   int64 `json:"place_us,omitempty"`   // a sandbox was taken or made, and the code put into it
	InitUS    int64 `json:"init_us"`              // the code was initialised
	AheadUS   int64 `json:"ahead_us,omitempty"`   // it was before anybody called, and this is the first call there: no part of it, and not billed
	RunUS     int64 `json:"run_us"`               // in the function
	ShareUS   int64 `json:"share_us,omitempty"`   // of RunUS, where others were in the instance at the same time: they divide what is billed; 0: all of it
	BusyUS    int64 `json:"busy_us,omitempty"`    // where Concurrency is set: for how long the instance was busy without a pause, its init included; 0: it still was
	StreamUS  int64 `json:"stream_us,omitempty"`  // of RunUS: what was streamed was handed on meanwhile, to a caller who may be slow
	RespondUS int64 `json:"respond_us,omitempty"` // the answer was handed on, up to this record
	BilledMS  int64 `json:"billed_ms"`
	MemoryMB  int   `json:"memory_mb"` // the limit
	TmpMB     int   `json:"tmp_mb,omitempty"`
	// Concurrency is how many at a time the instance may serve; 0: one.
	Concurrency int    `json:"concurrency,omitempty"`
	PeakMB      int64  `json:"peak_mb"` // the instance's high-water mark so far
	CPUUS       int64  `json:"cpu_us"`  // of the sandbox, during this attempt, or its share of that; includes init on a cold start
	BytesIn     int64  `json:"bytes_in"`
	BytesOut    int64  `json:"bytes_out"`
	Cold        bool   `json:"cold,omitempty"`
	Outcome     string `json:"outcome"`
	Error       string `json:"error,omitempty"` // the fault's type
}

// Billed returns AWS's billed duration in whole milliseconds:
// ceil(init + run) on a cold start, ceil(run) on a warm one, at least 1.
func Billed(initTime, run time.Duration) int64 {
	return max(1, int64((initTime+run+time.Millisecond-1)/time.Millisecond))
}
