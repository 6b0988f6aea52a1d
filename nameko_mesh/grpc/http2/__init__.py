"""An HTTP/2 server for nameko-grpc that waits for events and has limits.

nameko-grpc polls every 10 ms for data to send, so a call takes at least that long. Here a write into a stream
wakes the stream's connection. `limits` bounds the memory and the work that clients can cause. An error of a
call ends that call alone. An error of a connection ends that connection alone.

| module | task |
|---|---|
| listener | accepts connections, drains and closes them |
| connection | the calls of one client, over h2 |
| request_stream, response_stream | the two halves of a call, each with a bound on its `message_buffer` |
| sender | the only writer of a socket |
| keepalive | decides when to ping a client, and when to disconnect |
| limits | all limits |
"""
