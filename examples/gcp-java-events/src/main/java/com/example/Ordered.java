package com.example;

import com.google.cloud.functions.TypedFunction;

/** Takes JSON as an object, and answers with one. */
public class Ordered implements TypedFunction<Ordered.Order, Ordered.Order> {
  /** What is ordered. */
  public static class Order {
    String item;
    int count;
  }

  @Override
  public Order apply(Order order) {
    order.item = order.item.toUpperCase();
    return order;
  }
}
