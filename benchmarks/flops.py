"""Operations a network has to do, counted from its sizes: products and sums of matrix products, nothing else.

Useful work only: no padding of weights, no product by which neighbours are picked, nothing done twice.
"""

from __future__ import annotations

from vdw_jax.equivariant.config import EquiformerConfig
from vdw_jax.model.cdvae import STACK_BASIS
from vdw_jax.model.config import ModelConfig
from vdw_jax.types import NUM_ELEMENTS


def matmul(*sizes: int) -> int:
    """Two for each product of the sizes."""
    total = 2
    for size in sizes:
        total *= size
    return total


def num_coefficients(config: EquiformerConfig) -> int:
    """(lmax + 1)^2."""
    return (config.lmax + 1) ** 2


def rotation(config: EquiformerConfig, channels: int) -> int:
    """One edge into its frame, or back."""
    rows = (min(degree, config.mmax) * 2 + 1 for degree in range(config.lmax + 1))
    return sum(matmul(row, 2 * degree + 1, channels) for degree, row in enumerate(rows))


def radial(config: EquiformerConfig, features: int) -> int:
    """One edge's radial function, but for what its ends bring to the first layer."""
    widths = (config.num_basis, *config.radial_hidden, features)
    return sum(matmul(n, m) for n, m in zip(widths, widths[1:], strict=False))


def radial_node(config: EquiformerConfig) -> int:
    """One node's part of a radial function: its species as source and as target."""
    return 2 * matmul(config.edge_channels, config.radial_hidden[0])


def num_radial_weights(config: EquiformerConfig) -> int:
    """Weights that scale an edge's message."""
    return 2 * config.channels * sum(config.order.num_degrees(m) for m in range(config.mmax + 1))


def so2(config: EquiformerConfig, channels: int, features: int, num_extra: int) -> int:
    """One edge's SO(2) product."""
    parts = 1 if config.reflections else 2
    degrees = config.order.num_degrees
    total = matmul(degrees(0) * channels, degrees(0) * features + num_extra)
    return total + sum(
        2 * parts * matmul(degrees(m) * channels, degrees(m) * features) for m in range(1, config.mmax + 1)
    )


def num_extra_scalars(config: EquiformerConfig) -> int:
    """Invariants that the first SO(2) product gives beside its features: for the attention and for gates."""
    gates = config.attention_channels * (1 if config.edge_activation == "s2" else config.lmax)
    return config.num_heads * config.alpha_channels + gates


def activation(config: EquiformerConfig) -> int:
    """One edge, to the grid and back."""
    if config.edge_activation != "s2":
        return 0
    points = config.edge_grid.num_polar * config.edge_grid.num_around
    return 2 * matmul(points, config.order.size, config.attention_channels)


def feed_forward(config: EquiformerConfig, features: int) -> int:
    """One node's feed-forward network."""
    size, hidden, channels = num_coefficients(config), config.ffn_channels, config.channels
    points = config.node_grid.num_polar * config.node_grid.num_around
    into = 2 * hidden if config.ffn_activation == "product" else hidden
    total = matmul(size, channels, into) + matmul(channels, hidden) + matmul(size, hidden, features)
    total += matmul(points, size, into) + matmul(points, size, hidden)
    if config.ffn_activation == "product":
        return total
    return total + 2 * matmul(size, hidden, hidden) + matmul(points, hidden, hidden)


def attention_edge(config: EquiformerConfig) -> int:
    """One edge in one attention block."""
    values, hidden = config.num_heads * config.value_channels, config.attention_channels
    return (
        rotation(config, 2 * config.channels)
        + radial(config, num_radial_weights(config))
        + so2(config, 2 * config.channels, hidden, num_extra_scalars(config))
        + activation(config)
        + so2(config, hidden, values, 0)
        + rotation(config, values)
    )


def attention(config: EquiformerConfig, neighbours: int, features: int) -> int:
    """One node in one attention block."""
    values = config.num_heads * config.value_channels
    node = radial_node(config) + matmul(num_coefficients(config), values, features)
    return neighbours * attention_edge(config) + node


def equiformer(config: EquiformerConfig, neighbours: int, context: int) -> int:
    """One node through a backbone whose nodes are given `context` invariants."""
    message = config.order.num_degrees(0) * config.channels
    turned_back = sum(matmul(2 * degree + 1, config.channels) for degree in range(config.lmax + 1))
    first = neighbours * (radial(config, message) + turned_back) + radial_node(config)
    if context:
        first += matmul(config.channels + context, config.channels) + matmul(context, config.edge_channels)
        first += matmul(config.edge_channels, config.radial_hidden[0])
    layer = attention(config, neighbours, config.channels) + feed_forward(config, config.channels)
    if context and config.condition_every_layer:
        layer += matmul(context, config.channels)
    return first + config.num_layers * layer


def denoiser(config: ModelConfig, atoms: int) -> int:
    """One structure through the denoiser and its heads: one network call."""
    network, neighbours = config.denoiser, num_neighbours(config, atoms)
    context = config.latent_dim + 32 * (config.noise_conditioned + config.species_noise_conditioned)
    context += NUM_ELEMENTS * config.has_stack
    radials = (network.num_layers + 2) * neighbours * config.has_stack
    node = (
        equiformer(network, neighbours, context)
        + radials * matmul(STACK_BASIS, network.edge_channels)
        + feed_forward(network, NUM_ELEMENTS)
        + attention(network, neighbours, 1)
    )
    return atoms * node


def encoder(config: ModelConfig, atoms: int) -> int:
    """One structure through the encoder and its head."""
    node = equiformer(config.encoder, num_neighbours(config, atoms), 0)
    node += feed_forward(config.encoder, config.latent_dim)
    return atoms * node + matmul(config.latent_dim, 2 * config.latent_dim)


def training(config: ModelConfig, atoms: int) -> int:
    """One structure in a training step: forward, and twice as much backward."""
    return 3 * (encoder(config, atoms) + denoiser(config, atoms))


def num_neighbours(config: ModelConfig, atoms: int) -> int:
    """Slots of an atom."""
    return 3 * atoms + 3 if config.graph == "pairs" else config.max_neighbours
