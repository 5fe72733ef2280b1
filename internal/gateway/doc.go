// Package gateway is the corridor: it knows the allowed routes, calls the rooms in order, and maps what they say to status codes.
//
// A request goes listen → auth → tenant → limits → remotewrite or query → proxy. What is forwarded is written afresh from
// parsed values; nothing of the client's request travels as it came.
package gateway
