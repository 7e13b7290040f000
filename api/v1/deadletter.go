package v1

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"lambent"
	"lambent/trigger"
)

// A DeadLetter is an asynchronous invocation that is not tried any more.
type DeadLetter struct {
	ID        string    `json:"id" doc:"The invocation's" example:"6a7e8feb-b491-4cf7-a9f1-bf3703467718"`
	Qualifier string    `json:"qualifier,omitempty" example:"live"`
	Trigger   string    `json:"trigger,omitempty" doc:"Whose event it is; not there: it was called directly"`
	Attempts  int       `json:"attempts" example:"3"`
	Accepted  time.Time `json:"accepted"`
	Died      time.Time `json:"died"`
	Reason    string    `json:"reason" doc:"The last failure, in one line" example:"ValueError: no such order"`
	Payload   []byte    `json:"payload,omitempty" doc:"As it came, in base64; an event as CloudEvents has it in JSON. Only where one is asked for"`
}

// A DeadLetterList is a function's oldest.
type DeadLetterList struct {
	DeadLetters []DeadLetter `json:"dead_letters" doc:"The oldest first"`
	Total       int          `json:"total" doc:"How many there are" example:"1"`
}

// A DeadLetterCount is how many something was done with.
type DeadLetterCount struct {
	Count int `json:"count" example:"1"`
}

type (
	deadLetterInput struct {
		FunctionInput
		ID string `path:"id" doc:"The invocation's id" example:"6a7e8feb-b491-4cf7-a9f1-bf3703467718"`
	}
	listDeadLettersInput struct {
		DeadSelection
		Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100" example:"100"`
	}
	deadLettersInput struct {
		DeadSelection
		All    bool `query:"all" doc:"All that the function has, where nothing selects some of them"`
		DryRun bool `query:"dry_run" doc:"Only count them"`
	}
	DeadSelection struct { // exported, or its fields are not taken for parameters
		FunctionInput
		Selection
		Error string `query:"error" doc:"A text in the last failure" example:"timeout"`
	}
	deadLetterOutput      struct{ Body DeadLetter }
	deadLetterListOutput  struct{ Body DeadLetterList }
	deadLetterCountOutput struct{ Body DeadLetterCount }
)

func (s *service) deadLetterOperations(api huma.API) {
	const path = "/v1/functions/{name}/deadletters"
	tags := []string{"asynchronous invocations"}
	operation(s, api, huma.Operation{
		OperationID: "list-deadletters", Method: http.MethodGet, Path: path, Tags: tags, Summary: "List dead letters",
		Description: "Asynchronous invocations that failed as often as the function allows, or grew too old. They outlive the function, and are kept for two weeks (serve --keep-dead), at most 10,000 of a function (serve --max-dead): of more the oldest are removed.",
	}, s.listDeadLetters)
	operation(s, api, huma.Operation{
		OperationID: "get-deadletter", Method: http.MethodGet, Path: path + "/{id}", Tags: tags, Summary: "Get a dead letter with its payload",
	}, s.getDeadLetter)
	operation(s, api, huma.Operation{
		OperationID: "redrive-deadletters", Method: http.MethodPost, Path: path + "/redrive", Tags: tags, Summary: "Run dead letters again, from their first attempt on",
		Description: "Those that are selected, or all: all=true.",
	}, s.deadLetters(s.Triggers.Redrive))
	operation(s, api, huma.Operation{
		OperationID: "purge-deadletters", Method: http.MethodDelete, Path: path, Tags: tags, Summary: "Remove dead letters", Description: "Those that are selected, or all: all=true.",
	}, s.deadLetters(s.Triggers.Purge))
}

func deadLetter(d *trigger.DeadLetter) DeadLetter {
	return DeadLetter{
		ID: d.ID, Qualifier: d.Function.Qualifier, Trigger: d.Trigger, Attempts: d.Attempts, Accepted: d.Accepted.UTC(), Died: d.Died.UTC(),
		Reason: oneLine(d.Reason), Payload: d.Payload,
	}
}

func (s *service) listDeadLetters(ctx context.Context, in *listDeadLettersInput) (*deadLetterListOutput, error) {
	name, err := in.name(ctx, in.Name, "")
	if err != nil {
		return nil, err
	}
	q, err := in.query()
	if err != nil {
		return nil, err
	}
	q.Limit = in.Limit
	letters, total, err := s.Triggers.DeadLetters(ctx, name, q)
	if err != nil {
		return nil, err
	}
	if len(letters) == 0 { // or a name that was mistyped would look well
		if _, err := s.Control.Get(name); err != nil {
			return nil, err
		}
	}
	out := &deadLetterListOutput{DeadLetterList{make([]DeadLetter, len(letters)), total}}
	for i := range letters {
		out.Body.DeadLetters[i] = deadLetter(&letters[i])
	}
	return out, nil
}

func (s *service) getDeadLetter(ctx context.Context, in *deadLetterInput) (*deadLetterOutput, error) {
	name, err := in.name(ctx, in.Name, "")
	if err != nil {
		return nil, err
	}
	d, err := s.Triggers.DeadLetter(ctx, name, in.ID)
	if err != nil {
		return nil, err
	}
	return &deadLetterOutput{deadLetter(&d)}, nil
}

func (s *DeadSelection) query() (trigger.Query, error) {
	q, err := s.Selection.query()
	q.Error = s.Error
	return q, err
}

// deadLetters serves what is done with some or all.
func (s *service) deadLetters(do func(context.Context, lambent.Name, trigger.Query, bool) (int, error)) func(context.Context, *deadLettersInput) (*deadLetterCountOutput, error) {
	return func(ctx context.Context, in *deadLettersInput) (*deadLetterCountOutput, error) {
		name, err := in.name(ctx, in.Name, "")
		if err != nil {
			return nil, err
		}
		q, err := in.query()
		if err != nil {
			return nil, err
		}
		if in.All != (q == trigger.Query{}) {
			return nil, lambent.Errorf(lambent.Invalid, "v1.deadletters", "which dead letters? Something selects some of them, such as an id, or it is all: all=true")
		}
		n, err := do(ctx, name, q, in.DryRun)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			if _, err := s.Control.Get(name); err != nil {
				return nil, err
			}
		}
		return &deadLetterCountOutput{DeadLetterCount{n}}, nil
	}
}
