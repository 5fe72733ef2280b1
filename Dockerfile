# The gateway alone: a static binary and the public authorities' certificates.
#   docker build --build-arg VERSION=v0.1.0 -t m3gateway .
FROM golang:1.26 AS build
WORKDIR /src
COPY . .
ARG VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /gateway ./cmd/gateway

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /gateway /gateway
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
# HTTPS, HTTP (challenges and redirects, if configured), admin.
EXPOSE 8443 8080 9091
ENTRYPOINT ["/gateway"]
CMD ["serve", "--config", "/etc/m3gateway/gateway.yaml"]
