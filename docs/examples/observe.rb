# frozen_string_literal: true
# Rack middleware that hands every exchange to understudy: use Observe. See docs/adapters.md.
require "json"
require "net/http"

class Observe
  URL = URI("#{ENV.fetch("UNDERSTUDY_URL", "http://127.0.0.1:9469")}/observe")
  TOKEN_FILE = ENV["UNDERSTUDY_TOKEN_FILE"] # Where the admin listener wants a token; read each time, since it is renewed.

  def initialize(app)
    @app, @waiting = app, SizedQueue.new(1000)
    Thread.new { loop { send_line(@waiting.pop) } }
  end

  def call(env)
    body = env["rack.input"]&.read.to_s
    env["rack.input"] = StringIO.new(body)
    status, headers, parts = @app.call(env)
    answer = [].tap { |all| parts.each { |part| all << part } }
    target = env["PATH_INFO"] + (env["QUERY_STRING"].to_s.empty? ? "" : "?#{env["QUERY_STRING"]}")
    fields = env.select { |name, _| name.start_with?("HTTP_") }.map { |name, value| [name[5..].tr("_", "-").capitalize, value] }
    request = { method: env["REQUEST_METHOD"], target: target, headers: fields, body: [body].pack("m0") }
    response = { status: status.to_i, headers: headers.map { |name, value| [name, value.to_s] }, body: [answer.join].pack("m0") }
    @waiting.push(JSON.generate(request: request, response: response), true) rescue ThreadError # Full: the service never waits.
    [status, headers, answer]
  end

  def send_line(line)
    fields = TOKEN_FILE ? { "Authorization" => "Bearer #{File.read(TOKEN_FILE).strip}" } : {}
    http = Net::HTTP.new(URL.host, URL.port, nil)
    http.use_ssl = URL.scheme == "https"
    http.post(URL.path, line, fields)
  rescue StandardError # It is not handed in. Nothing is said of it here: the text could hold the token.
  end
end
