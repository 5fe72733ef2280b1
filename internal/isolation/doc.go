// Package isolation proves by tests that the bytes a tenant gets back are the same whether or not another tenant has data.
package isolation
