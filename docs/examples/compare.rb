#!/usr/bin/env ruby
# frozen_string_literal: true

# An external comparator for understudy: compares the total of an order, in cents.
#
# Protocol: docs/comparator.md. One line of JSON comes in for each exchange, one goes out.

require "json"

$stdout.sync = true

# The total of an order in cents; nil where the answer is no order.
def total_cents(answer)
  order = JSON.parse(answer["body"]["text"] || "null")
  order["items"].sum { |item| (item["price"] * 100).round * item["count"] }
rescue JSON::ParserError, NoMethodError, TypeError
  nil
end

def differences(question)
  control = total_cents(question["control"])
  candidate = total_cents(question["candidate"])
  return [] if control == candidate

  [{ path: "order total", kind: "value", control: control, candidate: candidate }]
end

$stdin.each_line do |line|
  question = JSON.parse(line)
  answer = { id: question["id"] }
  begin
    answer[:differences] = differences(question)
  rescue StandardError => e # Whatever it is, this exchange alone is not compared.
    answer[:error] = e.message
  end
  puts JSON.generate(answer)
end
