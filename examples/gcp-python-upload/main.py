import functions_framework


@functions_framework.cloud_event
def uploaded(event):
    print(f"{event['type']}: {event.data['bucket']}/{event.data['name']}")
