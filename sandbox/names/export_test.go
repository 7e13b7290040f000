//go:build linux

package names

// What reads foreign bytes, for fuzzing.
var (
	IsAnswer = isAnswer
	LeadsTo  = leadsTo
	Question = questionOf
	Say      = say
)
