package com.example;

import com.google.cloud.functions.BackgroundFunction;
import com.google.cloud.functions.Context;
import java.util.Base64;
import java.util.logging.Logger;

/** Hears of a message, as background functions of before CloudEvents do. */
public class Received implements BackgroundFunction<Received.Message> {
  private static final Logger logger = Logger.getLogger(Received.class.getName());

  /** A message of a topic. */
  public static class Message {
    String data;
  }

  @Override
  public void accept(Message message, Context context) {
    logger.info(context.eventType() + ": " + new String(Base64.getDecoder().decode(message.data)));
  }
}
