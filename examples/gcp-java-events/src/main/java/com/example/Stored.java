package com.example;

import com.google.cloud.functions.CloudEventsFunction;
import io.cloudevents.CloudEvent;
import java.nio.charset.StandardCharsets;
import java.util.logging.Logger;

/** Hears of an upload, as a CloudEvent. */
public class Stored implements CloudEventsFunction {
  private static final Logger logger = Logger.getLogger(Stored.class.getName());

  @Override
  public void accept(CloudEvent event) {
    String data = new String(event.getData().toBytes(), StandardCharsets.UTF_8);
    logger.info(event.getType() + " of " + event.getSubject() + ": " + data);
  }
}
