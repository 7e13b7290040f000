package meter

// AppendRecord and Decode are the codec, for the tests that hold it against
// encoding/json.
var (
	AppendRecord = appendRecord
	Decode       = decode
)
