package aws_test

import (
	"strings"
	"testing"

	"lambent"
	"lambent/server/servertest"
)

// onSQS is what a client in Python does with all operations. botocore compares the MD5 of bodies; those of attributes are known.
const onSQS = `
import base64, time
names = lambda r: [u.rsplit("/", 1)[1] for u in r.get("QueueUrls", r.get("queueUrls", []))]
def fails(f, **args):
    try:
        f(**args)
        return "no error"
    except ClientError as e:
        return e.response["Error"]["Code"] + " " + str(e.response["ResponseMetadata"]["HTTPStatusCode"])

u = sqs.create_queue(QueueName="q", Attributes={"DelaySeconds": "0", "VisibilityTimeout": "60"}, tags={"team": "a", "b": "c"})["QueueUrl"]
print(u.startswith(sqs.meta.endpoint_url), u.rsplit("/", 2)[1:])
print(sqs.create_queue(QueueName="q", Attributes={"VisibilityTimeout": "60"})["QueueUrl"] == u, fails(sqs.create_queue, QueueName="q", Attributes={"VisibilityTimeout": "61"}))
dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
sqs.set_queue_attributes(QueueUrl=u, Attributes={"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "2"}), "MessageRetentionPeriod": "600"})
a = sqs.get_queue_attributes(QueueUrl=u, AttributeNames=["All"])["Attributes"]
print(arn, a["RedrivePolicy"], a["MessageRetentionPeriod"], a["VisibilityTimeout"], a["ApproximateNumberOfMessages"], len(a))
print(names(sqs.list_queues()), names(sqs.list_queues(QueueNamePrefix="de")), names(sqs.list_dead_letter_source_queues(QueueUrl=dead)))
page = sqs.list_queues(MaxResults=1)
print(names(page), names(sqs.list_queues(MaxResults=1, NextToken=page["NextToken"])))
print(sqs.get_queue_url(QueueName="q")["QueueUrl"] == u, fails(sqs.get_queue_url, QueueName="none"))
sqs.tag_queue(QueueUrl=u, Tags={"x": "y"})
sqs.untag_queue(QueueUrl=u, TagKeys=["team"])
print(sorted(sqs.list_queue_tags(QueueUrl=u)["Tags"].items()))

body = "a body <&> \u00fc\t\n" + "x" * 1000
r = sqs.send_message(QueueUrl=u, MessageBody=body, MessageAttributes={
    "s": {"DataType": "String", "StringValue": "\u00fc<"}, "n.x": {"DataType": "Number.int", "StringValue": "1.5"}, "b": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}},
    MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}})
print(len(r["MessageId"]), r["MD5OfMessageBody"], r["MD5OfMessageAttributes"], r["MD5OfMessageSystemAttributes"])
m = sqs.receive_message(QueueUrl=u, AttributeNames=["All"], MessageAttributeNames=["All"], WaitTimeSeconds=5)["Messages"][0]
print(m["MessageId"] == r["MessageId"], m["Body"] == body, m["MD5OfBody"] == r["MD5OfMessageBody"], m["MD5OfMessageAttributes"] == r["MD5OfMessageAttributes"])
print(sorted(m["Attributes"]), m["Attributes"]["ApproximateReceiveCount"], sorted(m["MessageAttributes"].items(), key=str))
print(sqs.change_message_visibility(QueueUrl=u, ReceiptHandle=m["ReceiptHandle"], VisibilityTimeout=0)["ResponseMetadata"]["HTTPStatusCode"])
m = sqs.receive_message(QueueUrl=u, MessageAttributeNames=["n.*"], AttributeNames=["ApproximateReceiveCount"])["Messages"][0]
print(m["Attributes"], sorted(m["MessageAttributes"]))
sqs.change_message_visibility(QueueUrl=u, ReceiptHandle=m["ReceiptHandle"], VisibilityTimeout=0)
print(sqs.receive_message(QueueUrl=u, WaitTimeSeconds=0).get("Messages"))
m = sqs.receive_message(QueueUrl=dead, AttributeNames=["DeadLetterQueueSourceArn"])["Messages"][0]
print(m["Attributes"], m["MessageId"] == r["MessageId"])
sqs.delete_message(QueueUrl=dead, ReceiptHandle=m["ReceiptHandle"])

r = sqs.send_message_batch(QueueUrl=u, Entries=[{"Id": str(i), "MessageBody": "m%d" % i, "DelaySeconds": 900 if i == 3 else 0} for i in range(4)] + [{"Id": "bad", "MessageBody": "\x01"}])
print([e["Id"] for e in r["Successful"]], [(e["Id"], e["Code"], e["SenderFault"]) for e in r["Failed"]])
ms = []
while len(ms) < 3:
    ms += sqs.receive_message(QueueUrl=u, MaxNumberOfMessages=10, WaitTimeSeconds=5)["Messages"]
print([m["Body"] for m in ms])
a = sqs.get_queue_attributes(QueueUrl=u, AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"])["Attributes"]
print(sorted(a.items()))
r = sqs.change_message_visibility_batch(QueueUrl=u, Entries=[{"Id": "a", "ReceiptHandle": ms[0]["ReceiptHandle"], "VisibilityTimeout": 100}, {"Id": "b", "ReceiptHandle": "x", "VisibilityTimeout": 1}])
print(r["Successful"], [(e["Id"], e["Code"]) for e in r["Failed"]])
r = sqs.delete_message_batch(QueueUrl=u, Entries=[{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(ms)])
print(r["Successful"], r.get("Failed", []))
sqs.purge_queue(QueueUrl=u)

f = sqs.create_queue(QueueName="f.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"})["QueueUrl"]
one = sqs.send_message(QueueUrl=f, MessageBody="1", MessageGroupId="g")
two = sqs.send_message(QueueUrl=f, MessageBody="1", MessageGroupId="g")
print(one["MessageId"] == two["MessageId"], len(one["SequenceNumber"]), one["SequenceNumber"] == two["SequenceNumber"])
sqs.send_message(QueueUrl=f, MessageBody="2", MessageGroupId="g", MessageDeduplicationId="d")
m = sqs.receive_message(QueueUrl=f, AttributeNames=["All"])["Messages"][0]
print(m["Body"], sorted(m["Attributes"]), sqs.receive_message(QueueUrl=f).get("Messages"))
sqs.delete_message(QueueUrl=f, ReceiptHandle=m["ReceiptHandle"])
print(sqs.receive_message(QueueUrl=f)["Messages"][0]["Body"])

for name, args in [("send_message", {"MessageBody": ""}), ("send_message", {"MessageBody": "x" * (1 << 20) + "x"}), ("send_message", {"MessageBody": "\x00"}),
    ("send_message", {"MessageBody": "x", "DelaySeconds": 901}), ("send_message", {"MessageBody": "x", "MessageAttributes": {"AWS..x": {"DataType": "String", "StringValue": "v"}}}),
    ("send_message", {"MessageBody": "x", "MessageAttributes": {"x": {"DataType": "Float", "StringValue": "v"}}}), ("send_message", {"MessageBody": "x", "MessageAttributes": {"x": {"DataType": "Number", "StringValue": "v"}}}),
    ("receive_message", {"MaxNumberOfMessages": 11}), ("receive_message", {"WaitTimeSeconds": 21}), ("receive_message", {"VisibilityTimeout": -1}), ("delete_message", {"ReceiptHandle": "x"}),
    ("send_message_batch", {"Entries": [{"Id": "a", "MessageBody": "x"}] * 2}), ("send_message_batch", {"Entries": [{"Id": str(i), "MessageBody": "x"} for i in range(11)]}), ("send_message_batch", {"Entries": [{"Id": "a b", "MessageBody": "x"}]}),
    ("send_message_batch", {"Entries": [{"Id": str(i), "MessageBody": "x" * 600000} for i in range(2)]}), ("change_message_visibility", {"ReceiptHandle": ms[1]["ReceiptHandle"], "VisibilityTimeout": 5}),
    ("set_queue_attributes", {"Attributes": {"Nope": "1"}}), ("set_queue_attributes", {"Attributes": {"DelaySeconds": "x"}}), ("set_queue_attributes", {"Attributes": {"RedrivePolicy": "{}"}}),
    ("set_queue_attributes", {"Attributes": {"Policy": "{}"}}), ("get_queue_attributes", {"AttributeNames": ["Nope"]})]:
    print(name, fails(getattr(sqs, name), QueueUrl=u, **args))
print(fails(sqs.send_message, QueueUrl=u + "none", MessageBody="x"), fails(sqs.create_queue, QueueName="a b"), fails(sqs.create_queue, QueueName="a.fifo"))
try:
    sqs.delete_queue(QueueUrl=u + "none")
except sqs.exceptions.QueueDoesNotExist as e:
    print("QueueDoesNotExist")
for q in u, dead, f:
    sqs.delete_queue(QueueUrl=q)
print(names(sqs.list_queues()))
`

const sqsWant = `True ['000000000000', 'q']
True QueueAlreadyExists 400
arn:aws:sqs:us-east-1:000000000000:dead {"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":2} 600 60 0 12
['dead', 'q'] ['dead'] ['q']
['dead'] ['q']
True AWS.SimpleQueueService.NonExistentQueue 400
[('b', 'c'), ('x', 'y')]
36 2ef7e2ecb3c6af5d1ca4da3a966eb035 3c910b550a67c37ae3bf80e083c8ded2 62a56dd927315f2b2e12832b84617ea5
True True True True
['AWSTraceHeader', 'ApproximateFirstReceiveTimestamp', 'ApproximateReceiveCount', 'SenderId', 'SentTimestamp'] 1 [('b', {'BinaryValue': b'\x00\xff', 'DataType': 'Binary'}), ('n.x', {'StringValue': '1.5', 'DataType': 'Number.int'}), ('s', {'StringValue': 'ü<', 'DataType': 'String'})]
200
{'ApproximateReceiveCount': '2'} ['n.x']
None
{'DeadLetterQueueSourceArn': 'arn:aws:sqs:us-east-1:000000000000:q'} True
['0', '1', '2', '3'] [('bad', 'InvalidMessageContents', True)]
['m0', 'm1', 'm2']
[('ApproximateNumberOfMessages', '0'), ('ApproximateNumberOfMessagesDelayed', '1'), ('ApproximateNumberOfMessagesNotVisible', '3')]
[{'Id': 'a'}] [('b', 'ReceiptHandleIsInvalid')]
[{'Id': '0'}, {'Id': '1'}, {'Id': '2'}] []
True 20 True
1 ['ApproximateFirstReceiveTimestamp', 'ApproximateReceiveCount', 'MessageDeduplicationId', 'MessageGroupId', 'SenderId', 'SentTimestamp', 'SequenceNumber'] None
2
send_message InvalidParameterValue 400
send_message InvalidParameterValue 400
send_message InvalidMessageContents 400
send_message InvalidParameterValue 400
send_message InvalidParameterValue 400
send_message InvalidParameterValue 400
send_message InvalidParameterValue 400
receive_message InvalidParameterValue 400
receive_message InvalidParameterValue 400
receive_message InvalidParameterValue 400
delete_message ReceiptHandleIsInvalid 400
send_message_batch AWS.SimpleQueueService.BatchEntryIdsNotDistinct 400
send_message_batch AWS.SimpleQueueService.TooManyEntriesInBatchRequest 400
send_message_batch AWS.SimpleQueueService.InvalidBatchEntryId 400
send_message_batch AWS.SimpleQueueService.BatchRequestTooLong 400
change_message_visibility AWS.SimpleQueueService.MessageNotInflight 400
set_queue_attributes InvalidAttributeName 400
set_queue_attributes InvalidAttributeValue 400
set_queue_attributes InvalidAttributeValue 400
set_queue_attributes InvalidAttributeValue 400
get_queue_attributes InvalidAttributeName 400
AWS.SimpleQueueService.NonExistentQueue 400 InvalidParameterValue 400 InvalidParameterValue 400
QueueDoesNotExist
[]
`

// What boto3 has of a life of queues is what it has of AWS's, in either protocol: clients of
// some years ago speak the older one.
func TestSQS(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	for project, which := range map[string]string{lambent.DefaultProject: "aws-clients", "old": "aws-clients-query"} {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			out := boto3Of(t, s, key(t, s, project, "admin"), which, "import os\nsqs = boto3.client('sqs', endpoint_url=os.environ['AWS_ENDPOINT_URL'])\n"+onSQS)
			if want := strings.ReplaceAll(sqsWant, "000000000000", lambent.AccountID(project)); out != want {
				t.Errorf("boto3 has\n%s\nwant\n%s", out, want)
			}
		})
	}
}

// The command line needs to be told where: its version 1 has addresses of its own for queues.
func TestSQSCLI(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	k := key(t, s, lambent.DefaultProject, "admin")
	run := func(args ...string) string {
		t.Helper()
		out, err := awscli(t, s, k, append([]string{"--endpoint-url", s.URL(), "sqs"}, args...)...)
		if err != nil {
			t.Fatalf("aws sqs %q: %v\n%s", args, err, out)
		}
		return out
	}
	run("create-queue", "--queue-name", "jobs.fifo", "--attributes", "FifoQueue=true,ContentBasedDeduplication=true")
	url := strings.Trim(run("get-queue-url", "--queue-name", "jobs.fifo", "--query", "QueueUrl"), `"`)
	run("send-message", "--queue-url", url, "--message-body", "hello", "--message-group-id", "g")
	got := run("receive-message", "--queue-url", url, "--wait-time-seconds", "5", "--query", "Messages[0].[Body,ReceiptHandle]", "--output", "text")
	body, receipt, _ := strings.Cut(got, "\t")
	if body != "hello" {
		t.Errorf("received %q", got)
	}
	run("delete-message", "--queue-url", url, "--receipt-handle", receipt)
	if left := run("get-queue-attributes", "--queue-url", url, "--attribute-names", "All", "--query", "Attributes.[ApproximateNumberOfMessages,ApproximateNumberOfMessagesNotVisible]", "--output", "text"); left != "0\t0" {
		t.Errorf("left are %q", left)
	}
}
