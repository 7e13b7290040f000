package com.example;

import com.google.cloud.functions.CloudEventsFunction;
import io.cloudevents.CloudEvent;
import java.nio.charset.StandardCharsets;
import java.util.logging.Logger;

/** Hears of events of one's own. One that names nobody is tried again, and is a dead letter then. */
public class Shipped implements CloudEventsFunction {
  private static final Logger logger = Logger.getLogger(Shipped.class.getName());

  @Override
  public void accept(CloudEvent event) {
    String parcel = new String(event.getData().toBytes(), StandardCharsets.UTF_8);
    if (!parcel.contains("\"customer\"")) {
      throw new IllegalArgumentException("shipped to nobody");
    }
    logger.info("shipped: " + parcel);
  }
}
