package com.example;

import com.google.cloud.functions.CloudEventsFunction;
import io.cloudevents.CloudEvent;
import java.nio.charset.StandardCharsets;
import java.util.logging.Logger;

/** Hears of a message, as a CloudEvent, whose data is JSON with the text in Base64. */
public class Published implements CloudEventsFunction {
  private static final Logger logger = Logger.getLogger(Published.class.getName());

  @Override
  public void accept(CloudEvent event) {
    String data = new String(event.getData().toBytes(), StandardCharsets.UTF_8);
    logger.info(event.getType() + " " + event.getId() + ": " + data);
  }
}
