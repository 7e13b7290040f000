package v1

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// A Server is what a server says of itself.
type Server struct {
	Version   string    `json:"version" example:"0.1.0"`
	Driver    string    `json:"driver" doc:"What isolates functions" example:"process"`
	Isolation string    `json:"isolation" doc:"What the driver promises, in one line"`
	DataDir   string    `json:"data_dir" example:"/var/lib/lambent"`
	Started   time.Time `json:"started"`
	UptimeS   int64     `json:"uptime_s" example:"3600"`
	Functions int       `json:"functions" doc:"In all projects" example:"12"`
	Instances Instances `json:"instances"`
	Limits    Limits    `json:"limits"`
}

// Instances counts instances by what they do.
type Instances struct {
	Idle     int `json:"idle"`
	Busy     int `json:"busy"`
	Starting int `json:"starting"`
	Queued   int `json:"queued" doc:"Invocations that wait for one"`
}

// Limits are the bounds that inputs are held to.
type Limits struct {
	MinMemoryMB        int   `json:"min_memory_mb" example:"128"`
	MaxMemoryMB        int   `json:"max_memory_mb" example:"10240"`
	MinTmpMB           int   `json:"min_tmp_mb" example:"512"`
	MaxTmpMB           int   `json:"max_tmp_mb" example:"10240"`
	MaxTimeoutMS       int64 `json:"max_timeout_ms" example:"900000"`
	MaxServerTimeoutMS int64 `json:"max_server_timeout_ms" doc:"Of functions that are web servers" example:"3600000"`
	InitTimeoutMS      int64 `json:"init_timeout_ms" example:"10000"`
	MaxConcurrency     int   `json:"max_concurrency" example:"1000"`
	EnvBytes           int   `json:"env_bytes" doc:"Names and values together" example:"4096"`
	PayloadBytes       int   `json:"payload_bytes" doc:"Either way" example:"6291456"`
	StreamBytes        int64 `json:"stream_bytes" doc:"Streamed out by one invocation" example:"209715200"`
	ZipBytes           int64 `json:"zip_bytes" doc:"An archive as sent" example:"52428800"`
	TreeBytes          int64 `json:"tree_bytes" doc:"Unpacked" example:"262144000"`
	Files              int   `json:"files" example:"100000"`
}

type serverOutput struct{ Body Server }

func (s *service) serverOperations(api huma.API) {
	operation(s, api, huma.Operation{
		OperationID: "get-server", Method: http.MethodGet, Path: "/v1/server", Tags: []string{"server"},
		Summary: "Get what the server says of itself",
	}, func(context.Context, *Scope) (*serverOutput, error) {
		return &serverOutput{Body: s.Server()}, nil
	})
}
